"""The offline learners' losses beside torchrl's, which is no dependency: where it is not installed these tests are skipped."""
import copy

import pytest
import torch

from leadlag.offline_rl.learners import Learning, Rows, cql_loss, fqi_loss, iql_loss

pytest.importorskip("torchrl", reason="torchrl is not installed: pip install 'torchrl>=0.14,<0.15' to hold the losses against it")
pytestmark = pytest.mark.filterwarnings("ignore")  # torchrl's own, about defaults that are given here

N, D, A = 64, 7, 3

@pytest.fixture
def case():
    "Networks, a target that differs from them, a minibatch of ours, and the same for torchrl."
    from tensordict import TensorDict
    torch.manual_seed(0)
    networks, target = ({name: torch.nn.Sequential(torch.nn.Linear(D, 16), torch.nn.Tanh(), torch.nn.Linear(16, n)) for name, n in (("policy", A), ("worth", A), ("value", 1))} for _ in range(2))
    seen, follows, reward, action, over = torch.randn(N, D), torch.randn(N, D), torch.randn(N), torch.randint(A, (N,)), torch.rand(N) < .2
    known = torch.nn.functional.one_hot(action, A).bool()
    rows = Rows(seen[:, None], known[:, None], (known * reward[:, None])[:, None], follows[:, None], (~over).float()[:, None, None])
    theirs = TensorDict({"observation": seen, "action": action, "next": {"observation": follows, "reward": reward[:, None], "done": over[:, None], "terminated": over[:, None]}}, [N])
    return networks, target, rows, theirs

def online(loss, name, module):
    "Give torchrl's loss, which was made from the target network, the weights of ours."
    theirs = [p for key, p in loss.named_parameters() if key.startswith(name)]
    assert len(theirs) == len(list(module.parameters()))
    for p, own in zip(theirs, module.parameters()): p.data = own.data.reshape(p.shape).clone()

def gradients(networks, value):
    "By name."
    for net in networks.values(): net.zero_grad()
    value.backward()
    return {f"{name}.{k}": p.grad.clone() for name, net in networks.items() for k, p in net.named_parameters() if p.grad is not None}

@pytest.mark.parametrize("gamma", [0., .8, .99])
def test_conservative_q_learning(case, gamma):
    from torchrl.modules import QValueActor
    from torchrl.objectives import DiscreteCQLLoss
    networks, target, rows, theirs = case
    loss = DiscreteCQLLoss(QValueActor(copy.deepcopy(networks["worth"]), in_keys=["observation"], action_space="categorical"), action_space="categorical", loss_function="l2", delay_value=True)
    loss.make_value_estimator(gamma=gamma)
    target = networks  # torchrl 0.14.1 takes what follows from the network itself, whatever its target holds
    out, config = loss(theirs), Learning(gamma=gamma, alpha=1.)
    ours = cql_loss(networks, target, rows, config)
    assert torch.isclose(fqi_loss(networks, target, rows, config), out["loss_qvalue"], atol=1e-6)
    assert torch.isclose(ours, out["loss_qvalue"] + out["loss_cql"], atol=1e-6)
    mine = gradients(networks, ours)
    loss.zero_grad(); (out["loss_qvalue"] + out["loss_cql"]).backward()
    found = [p.grad for p in loss.parameters() if p.grad is not None]
    assert sorted(float(g.norm()) for g in found) == pytest.approx(sorted(float(g.norm()) for g in mine.values()), rel=1e-4)

@pytest.mark.parametrize("expectile, beta", [(.5, 1.), (.8, 3.), (.95, 10.)])
def test_implicit_q_learning(case, expectile, beta):
    from tensordict.nn import ProbabilisticTensorDictModule, ProbabilisticTensorDictSequential, TensorDictModule
    from torchrl.objectives import DiscreteIQLLoss
    networks, target, rows, theirs = case
    actor = ProbabilisticTensorDictSequential(TensorDictModule(networks["policy"], ["observation"], ["logits"]),
                                              ProbabilisticTensorDictModule(["logits"], ["action"], distribution_class=torch.distributions.Categorical))
    loss = DiscreteIQLLoss(actor, TensorDictModule(copy.deepcopy(target["worth"]), ["observation"], ["state_action_value"]), TensorDictModule(networks["value"], ["observation"], ["state_value"]),
                           action_space="categorical", num_qvalue_nets=1, loss_function="l2", temperature=beta, expectile=expectile)
    loss.make_value_estimator(gamma=.8)
    online(loss, "qvalue_network_params", networks["worth"])
    out = loss(theirs)
    ours = iql_loss(networks, target, rows, Learning(gamma=.8, expectile=expectile, beta=beta))
    assert torch.isclose(ours, out["loss_actor"] + out["loss_qvalue"] + out["loss_value"], rtol=1e-5)
    mine = gradients(networks, ours)
    loss.zero_grad(); (out["loss_actor"] + out["loss_qvalue"] + out["loss_value"]).backward()
    found = [p.grad for p in loss.parameters() if p.grad is not None and p.grad.abs().sum() > 0]
    assert sorted(float(g.norm()) for g in found) == pytest.approx(sorted(float(g.norm()) for g in mine.values()), rel=1e-4)
