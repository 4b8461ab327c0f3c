"""The dry run of benchmarks/accelerator.py: every update that it measures, lowered for a GPU and a TPU; and its small parts."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import accelerator
from benchmarks.accelerator import CASES as MEASURED
from benchmarks.accelerator_parts import idle_time, table
from benchmarks.cases import PRECISIONS, Case, count, lower, problems
from wgan_jax.models import build_networks

CASES = {str(case): case for case in MEASURED}
# the structures: neither the width nor the batch changes which operations there are
SMALL = list({(case.network, case.size): case._replace(width=4, batch=4) for case in CASES.values()}.values())
# Convolutions by hand, see Case.operations. DCGAN 32, 3 layers: the fakes' pass 3, a critic update 8 and 12, the generator's
# 15. DCGAN 64, 4 layers: 4, 11 and 16, 20. ResNet 32, 10 layers each, two of them on the image: 10, 28 and 40, 50. MLP, 4
# dense layers: the fakes 4; scores 4 + 4 + 3, penalty 3 + 4 + 7; generator 4 + 4 + 3, critic 4 + 4.
BY_HAND = {("dcgan", 32): (38, 10), ("dcgan", 64): (51, 10), ("resnet", 32): (128, 10), ("mlp", 2): (0, 48)}


def is_as_by_hand(case, text):
    convolutions, dots = BY_HAND[case.network, case.size]
    assert count(text) == {"convolution": convolutions, "dot_general": dots} == case.operations()
    assert problems(text) == []


@pytest.mark.slow
@pytest.mark.parametrize("case", SMALL, ids=lambda case: f"{case.network}-{case.size}")
def test_an_update_is_lowered_for_accelerators_as_it_stands(case):
    """No form that is the CPU's own, nothing of the host, no float64, and no convolution more than the method asks for."""
    texts = lower(case, PRECISIONS["float32"], ("cuda", "tpu", "cpu"))
    for platform in ("cuda", "tpu"):
        is_as_by_hand(case, texts[platform])
        assert "HIGHEST" in texts[platform]
        assert "bf16" not in texts[platform]
    if case.network == "dcgan":  # the CPU's own form is told apart
        assert count(texts["cpu"])["convolution"] > case.operations()["convolution"]


@pytest.mark.slow
@pytest.mark.parametrize(("network", "size"), [("mlp", 2), ("dcgan", 32)])
def test_in_bfloat16(network, size):
    """With the penalty in it too, no product has another dtype."""
    case = Case(network, size, 4, 4)
    text = lower(case, PRECISIONS["bfloat16 penalty"], ("cuda",))["cuda"]
    is_as_by_hand(case, text)
    products = re.findall(r"stablehlo\.(?:convolution|dot_general).*-> tensor<[\dx]*(\w+)>", text)
    assert (len(products), set(products)) == (sum(count(text).values()), {"bf16"})
    apart = lower(case, PRECISIONS["bfloat16"], ("cuda",))["cuda"]
    kinds = re.findall(r"stablehlo\.(?:convolution|dot_general).*-> tensor<[\dx]*(\w+)>", apart)
    layers = 3 if network == "dcgan" else 4
    penalty = 4 * layers + 2 if network == "dcgan" else 3 + 4 + 7
    assert kinds.count("f32") == penalty


@pytest.mark.parametrize(("network", "size"), [("mlp", 2), ("dcgan", 32)])
def test_members_are_lowered_with_as_many_operations_as_one(network, size):
    case = Case(network, size, 4, 4)
    is_as_by_hand(case, lower(case, PRECISIONS["tf32"], ("cuda",), members=3)["cuda"])


def test_what_a_program_may_not_have_is_found():
    def asks(x):
        return jax.pure_callback(np.sin, jax.ShapeDtypeStruct(x.shape, x.dtype), x)

    def wide(x):
        return x.astype(jnp.float64) * 2

    (line,) = problems(jax.jit(asks).lower(jnp.ones(3)).as_text())
    assert "callback" in line
    with jax.enable_x64(True):
        assert problems(jax.jit(wide).lower(jnp.ones(3, jnp.float32)).as_text()) == ["float64"]
    assert problems(jax.jit(jnp.sin).lower(jnp.ones(3)).as_text()) == []


def test_operations_of_a_resnet_are_those_of_its_layers():
    """Multiplications of a forward pass, from the networks' own convolutions and matmuls."""
    case = Case("resnet", 16, 4, 2)
    config, shape = case.config(), case.dataset().shape
    networks = build_networks(config, shape)
    label, total = jnp.zeros(2, jnp.int32), []
    for init, apply, x in (
        (networks.init_critic, networks.critic, jnp.zeros((2, *shape))),
        (networks.init_generator, networks.generator, jnp.zeros((2, config.latent.dim))),
    ):
        params = jax.eval_shape(init, jax.random.key(0))["params"]
        text = jax.jit(lambda p, x, apply=apply: apply(p, {}, x, label)[0]).trace(params, x).lower(lowering_platforms=("cuda",))
        pattern = r"stablehlo\.(?:convolution|dot_general).*tensor<([\dx]+)xf32>\) -> tensor<([\dx]+)xf32>"
        found = [[list(map(int, shape.split("x"))) for shape in pair] for pair in re.findall(pattern, text.as_text())]
        total.append(sum(math.prod(kernel[:-1]) * math.prod(out) for kernel, out in found) // 2)
    critic, generator = total
    # 2 flops for a multiplication; by n_critic = 5 the formula of benchmarks.toy.update_flops, whose first layer is the image's
    first = 16**2 * 9 * 12 + 8**2 * 12
    score = 4  # the critic's dense layer
    penalty = 4 * (critic - score)
    critic_update = 2 * (critic + (critic - first - score) + (critic - score)) + penalty
    below = generator - 16 * 128 * 4
    generator_update = generator + critic + (critic - score) + generator + below
    assert case.flops() == 2 * 2 * (5 * (critic_update + generator) + generator_update)


def test_without_a_gpu_it_says_so(monkeypatch, capsys):
    monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    assert accelerator.main([]) == 2
    assert "no GPU" in capsys.readouterr().err


def test_idle_time_is_between_kernels_of_all_streams():
    # 0 to 4 and 3 to 5 overlap, 6 to 7 lies within 5.5 to 8: idle are 5 to 5.5 and 8 to 9
    assert idle_time([(3, 5), (0, 4), (5.5, 8), (6, 7), (9, 10)]) == (1.5, 10)


def test_a_table_is_in_columns():
    rows = [{"what": "a", "ms": 1.5, "n": 2}, {"what": "longer", "ms": 1234.6}]
    assert list(table(rows)) == ["  what       ms  n", "  a       1.500  2", "  longer  1,235"]


def test_a_part_that_is_none_is_refused(capsys):
    with pytest.raises(SystemExit):
        accelerator.main(["--parts=export,updats"])
    assert "updats: no part; there are memory, compilation, updates" in capsys.readouterr().err
