"""Modules: what is found in them, their state, training and evaluation, and their repr."""

import numpy as np
import pytest

import tinygen as tg
from tinygen import nn

SEED = np.random.default_rng(0)


def array(*shape, dtype="float32"):
    return SEED.normal(size=shape).astype(dtype)


class Shelf(nn.Module):
    """Parameters and modules everywhere that they may be."""

    def __init__(self):
        self.last = nn.Linear(2, 1)
        self.scale = tg.Tensor(2.0, requires_grad=True)
        self.pairs = [nn.Linear(1, 1, bias=False), (nn.ReLU(), nn.Linear(1, 2))]
        self.by_name = {"mean": nn.Linear(2, 3, bias=False), 7: tg.Tensor([1.0], requires_grad=True)}
        self.shared = self.last
        self.tied = self.scale
        self.steps = tg.Tensor(np.array(3))
        self.frozen = tg.Tensor([1.0, 2.0])
        self.computed = self.scale * 2.0
        self.note, self.array = "no parameter", np.ones(3)
        self.me = self


NAMES = ["last.weight", "last.bias", "scale", "pairs.0.weight", "pairs.1.1.weight", "pairs.1.1.bias"]
NAMES += ["by_name.mean.weight", "by_name.7"]


# What is found in a module ------------------------------------------------------------------------


def test_parameters_are_found_everywhere_once_in_order_of_assignment():
    shelf = Shelf()
    assert [name for name, _ in shelf.named_parameters()] == NAMES
    assert [id(p) for p in shelf.parameters()] == [id(p) for _, p in shelf.named_parameters()]
    assert shelf.parameters()[0] is shelf.last.weight
    assert all(p.requires_grad for p in shelf.parameters())


def test_order_is_that_of_assignment_and_what_is_assigned_again_keeps_its_place():
    class Model(nn.Module):
        def __init__(self):
            self.z, self.a = nn.Linear(1, 1), nn.Linear(1, 1)

    model = Model()
    model.z = nn.Linear(1, 1, bias=False)
    assert [name for name, _ in model.named_parameters()] == ["z.weight", "a.weight", "a.bias"]
    assert list(Model().state_dict()) == list(Model().state_dict())


def test_what_is_added_later_is_found():
    model = nn.Sequential(nn.Linear(2, 2))
    model.extra = [tg.Tensor([0.0], requires_grad=True)]
    assert [name for name, _ in model.named_parameters()] == ["layers.0.weight", "layers.0.bias", "extra.0"]
    model.extra[0].requires_grad = False
    assert len(model.parameters()) == 2


def test_zero_grad_drops_the_gradients():
    layer = nn.Linear(2, 2)
    layer(array(3, 2)).sum().backward()
    assert all(p.grad is not None for p in layer.parameters())
    layer.zero_grad()
    assert all(p.grad is None for p in layer.parameters())


def test_repr_shows_the_architecture_and_the_number_of_parameters():
    class Model(nn.Module):
        def __init__(self):
            self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(1000, 3), nn.Tanh())
            self.heads = [nn.Linear(3, 2, bias=False), nn.Reshape((2, 1))]
            self.scale = tg.Tensor(1.0, requires_grad=True)

    assert repr(Model()) == (
        "Model: 3,010 parameters\n"
        "  encoder: Sequential: 3,003 parameters\n"
        "    layers.0: Flatten()\n"
        "    layers.1: Linear(1000, 3)\n"
        "    layers.2: Tanh()\n"
        "  heads.0: Linear(3, 2, bias=False)\n"
        "  heads.1: Reshape((2, 1))"
    )
    assert repr(nn.Conv2d(1, 2, 3)) == "Conv2d(1, 2, 3, stride=1, padding=0)"
    assert repr(nn.ConvTranspose2d(2, 1, 4, 2, 1)) == (
        "ConvTranspose2d(2, 1, 4, stride=2, padding=1, output_padding=0)"
    )
    assert repr(nn.ReLU()) == "ReLU()"


def test_repr_of_a_module_that_holds_itself_ends():
    model = nn.Sequential(nn.Linear(1, 1))
    model.inner = nn.Sequential(nn.ReLU())
    model.inner.outer = model
    assert repr(model) == (
        "Sequential: 2 parameters\n"
        "  layers.0: Linear(1, 1)\n"
        "  inner: Sequential: 2 parameters\n"
        "    layers.0: ReLU()\n"
        "    outer: ..."
    )


def test_a_module_without_forward_says_so():
    with pytest.raises(NotImplementedError, match="Shelf has no method forward"):
        Shelf()(1)


# Training and evaluation --------------------------------------------------------------------------


def test_train_and_eval_reach_all_modules_below():
    shelf = Shelf()
    shelf.deep = {"a": [({"b": nn.Sequential(nn.Sequential(nn.Tanh()))},)]}
    tanh = shelf.deep["a"][0][0]["b"].layers[0].layers[0]
    modules = [shelf, shelf.last, shelf.pairs[1][0], shelf.by_name["mean"], tanh]
    assert all(module.training for module in modules)
    assert shelf.eval() is shelf
    assert not any(module.training for module in modules)
    assert shelf.train() is shelf
    assert all(module.training for module in modules)
    shelf.train(False)
    assert not any(module.training for module in modules)
    assert nn.Linear(1, 1).training  # each module has its own


def test_train_ends_in_a_module_that_is_held_below_itself():
    model = nn.Sequential(nn.Sequential(nn.ReLU()))
    model.layers[0].outer = model
    model.eval()
    assert not model.layers[0].layers[0].training


def test_training_is_no_part_of_the_state():
    model = nn.Sequential(nn.BatchNorm(2))
    names = list(model.state_dict())
    model.eval()
    assert list(model.state_dict()) == names
    trained = nn.Sequential(nn.BatchNorm(2))
    trained.load_state_dict(model.state_dict())
    assert trained.training
    assert trained.layers[0].training


def test_frozen_state_holds_inside_nested_blocks_and_ends_after_errors():
    layer = nn.BatchNorm(1)

    def moves():
        before = layer.running_mean.numpy()
        layer(array(5, 1))
        return not np.array_equal(layer.running_mean.data, before)

    assert moves()
    with nn.frozen_state():
        assert not moves()
        with nn.frozen_state():
            assert not moves()
        assert not moves()
    assert moves()
    with pytest.raises(ZeroDivisionError), nn.frozen_state():
        raise ZeroDivisionError
    assert moves()


# State --------------------------------------------------------------------------------------------


def test_state_holds_copies_of_parameters_and_untrained_state():
    shelf = Shelf()
    state = shelf.state_dict()
    assert list(state) == [*NAMES, "steps", "frozen"]
    state["last.weight"][...] = 5
    assert not (shelf.last.weight.data == 5).any()
    assert all(type(value) is np.ndarray for value in state.values())


def test_state_makes_another_module_the_same():
    source, target = Shelf(), Shelf()
    tensors = dict(target.named_parameters())
    target.astype("float64").load_state_dict(source.state_dict())
    for name, value in target.state_dict().items():
        np.testing.assert_array_equal(value, source.state_dict()[name])
    assert all(tensor is tensors[name] for name, tensor in target.named_parameters())
    assert target.last.weight.dtype == "float64"
    assert target.steps.dtype == "int64"


def test_a_state_that_does_not_fit_is_refused_in_one_error_and_nothing_changes():
    layers = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    before = layers.state_dict()
    state = {
        "layers.0.weight": np.zeros((3, 2)),
        "layers.0.bias": np.zeros(3),
        "layers.1.bias": np.zeros(1, bool),
        "layers.2.bias": np.zeros(1),
    }
    with pytest.raises(ValueError) as error:
        layers.load_state_dict(state)
    assert str(error.value) == (
        "load_state_dict: state: layers.1.weight is missing; layers.2.bias is unknown; "
        "layers.0.weight: expected float32[2, 3], got float64[3, 2]; "
        "layers.1.bias: expected float32[1], got bool[1]"
    )
    with pytest.raises(ValueError, match=r"layers.0.bias: expected float32\[3\], got list"):
        layers.load_state_dict({**before, "layers.0.bias": [0.0, 0.0, 0.0]})
    for name, value in layers.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


def test_without_strict_a_state_gives_what_both_have():
    layers = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    before = layers.state_dict()
    state = {"layers.0.bias": np.ones(3, "float32"), "layers.2.bias": np.zeros(1)}
    layers.load_state_dict(state, strict=False)
    np.testing.assert_array_equal(layers.layers[0].bias.data, np.ones(3))
    for name in before.keys() - state.keys():
        np.testing.assert_array_equal(layers.state_dict()[name], before[name])
    with pytest.raises(ValueError) as error:
        layers.load_state_dict({"layers.1.bias": np.ones(1), "layers.0.bias": np.ones(4)}, strict=False)
    assert str(error.value) == ("load_state_dict: state: layers.0.bias: expected float32[3], got float64[4]")
    assert layers.layers[1].bias.data[0] == 0


def test_loading_a_state_is_a_change_that_backward_notices():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    loss = model(array(3, 2)).sum()
    model.load_state_dict(model.state_dict())
    with pytest.raises(RuntimeError, match="changed in place"):
        loss.backward()


def test_astype_changes_floating_state_in_place():
    shelf = Shelf()
    weight = shelf.last.weight
    values = weight.numpy()
    (shelf.last(array(1, 2)).sum()).backward()
    assert shelf.astype("float64") is shelf
    assert shelf.last.weight is weight
    assert all(p.dtype == "float64" for p in shelf.parameters())
    assert weight.grad is None
    assert shelf.frozen.dtype == "float64"
    assert not shelf.frozen.requires_grad
    assert shelf.steps.dtype == "int64"
    np.testing.assert_array_equal(weight.data, values)
    shelf.last(array(1, 2, dtype="float64")).sum().backward()
    assert weight.grad.dtype == "float64"
    with pytest.raises(TypeError, match="astype: dtype: expected a floating one, got int64"):
        shelf.astype("int64")


def test_to_moves_parameters_and_state(far):
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm(2))
    state, parameters = model.state_dict(), model.parameters()
    assert model.to(far) is model
    assert {tg.backend.device_of(tensor.data) for tensor in [*parameters, model.layers[1].running_mean]} == {
        far
    }
    assert list(map(id, model.parameters())) == list(map(id, parameters))
    with tg.device(far):
        model(tg.Tensor(array(3, 2))).sum().backward()
        model.load_state_dict(state)
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, state[name])


def test_to_refuses_an_unknown_device_and_leaves_alone_what_is_there():
    layer = nn.Linear(2, 2)
    weight = layer.weight.data
    with pytest.raises(ValueError, match=r"device: expected one of .*, got 'tpu'"):
        layer.to("tpu")
    assert layer.to("cpu") is layer
    assert layer.weight.data is weight
