"use strict";
(() => {
  const $ = id => document.getElementById(id), body = document.querySelector("tbody");
  const rows = [...body.rows].map(row => ({ row, text: row.textContent.toLowerCase(), ...row.dataset }));
  const compare = (a, b, key, way) => {
    if (key !== "score") return way * (a[key] < b[key] ? -1 : a[key] > b[key] ? 1 : 0);
    if (!a.score || !b.score) return (a.score ? 0 : 1) - (b.score ? 0 : 1);  // those without one stay at the end
    return way * (a.score - b.score);
  };
  function update() {
    const words = $("search").value.toLowerCase().split(/\s+/).filter(Boolean), kind = $("kind").value, state = $("state").value;
    const [key, way] = $("order").value.split(",");
    let n = 0;
    for (const r of rows) {
      const fits = (!kind || r.kind === kind) && (!state || r.state === state) && words.every(w => r.text.includes(w));
      r.row.hidden = !fits; n += fits;
    }
    body.append(...[...rows].sort((a, b) => compare(a, b, key, +way) || compare(a, b, "name", 1)).map(r => r.row));
    $("shown").textContent = `${n} of ${rows.length} runs`;
  }
  for (const head of document.querySelectorAll("th[data-key]")) {
    head.tabIndex = 0;
    const choose = () => {
      const ways = [...$("order").options].map(o => o.value).filter(v => v.startsWith(head.dataset.key + ","));
      $("order").value = ways[(ways.indexOf($("order").value) + 1) % ways.length]; update();
    };
    head.onclick = choose; head.onkeydown = e => { if (e.key === "Enter") choose(); };
  }
  const form = document.querySelector("form");
  form.hidden = false; form.oninput = update; form.onsubmit = e => e.preventDefault();
  document.documentElement.classList.add("live");
  update();
})();
