"""What good values of a config make no sense together, a line each. Imports no jax."""

from typing import Any

from ml_collections import ConfigDict

from wgan_jax.keys import KEYS, keys_of
from wgan_jax.registries import described, registered

CONVOLUTIONAL = ("dcgan", "mlp_dcgan")  # whose critic's first layer may be normalised


def combinations(config: ConfigDict, flat: dict[str, Any]) -> list[str]:
    """Returns a line for every combination of good values that makes no sense together; flat: they by dotted key."""
    has_critic = described("objectives/__init__.py", "OBJECTIVES")[config.objective].get("has_critic", True)
    penalised = config.penalty.name != "none"
    weighs = penalised and config.penalty.weight > 0
    datasets = described("data/__init__.py", "DATASETS")
    normalizations = described("models/layers.py", "NORMALIZATIONS")
    kernel = described("models/kernels.py", "KERNELS")[config.model.critic_kernel]
    normalised = config.model.critic_normalization != "none"
    referring = {name for name, told in normalizations.items() if told.get("refers", False)}
    mixing_head = described("models/layers.py", "HEADS")[config.model.critic_head].get("mixes_examples", False)
    held = kernel.get("bounded", False) and not normalised and not mixing_head
    mixing = {name for name, told in normalizations.items() if told.get("mixes_examples", False)}
    mixing_none = " or ".join(sorted(normalizations.keys() - mixing - referring))
    mixed = sorted(mixing & {config.model.generator_normalization, config.model.critic_normalization})
    aimed = registered("objectives/losses.py", "CRITERIA")
    targets = [f"config.targets.{name}" for name, value in config.targets.items() if value > 0]
    conditionings = described("models/embedding.py", "CONDITIONINGS")
    packing = [name for name, told in conditionings.items() if told.get("packs", False)]
    matching = [name for name, told in conditionings.items() if told.get("matches", False)]
    classifying = [name for name, told in conditionings.items() if told.get("classifies", False)]
    classified = config.conditioning.name in classifying and not datasets[config.data.name].get("tables", False)
    taught = classified and config.conditioning.weight > 0
    checks = {
        f"{' and '.join(targets)}: loss={config.loss} has no targets; use one of {', '.join(aimed)}": (
            targets != [] and config.loss not in aimed
        ),
        "config.targets.smoothing, config.targets.noise and config.targets.flip: real examples must have higher targets than "
        "generated ones; keep smoothing + noise below 1 and flip below 0.5": (
            config.targets.smoothing + config.targets.noise >= 1 or config.targets.flip >= 0.5
        ),
        "config.critic.loss_weight: 0 leaves the critic nothing to learn; set it above 0, or terms.classification": (
            has_critic and config.critic.loss_weight == 0 and config.terms.classification == 0 and not taught
        ),
        "config.generator.loss_weight: 0 leaves the generator nothing to learn; set it above 0, or terms.feature_matching": (
            has_critic and config.generator.loss_weight == 0 and config.terms.feature_matching == 0 and not taught
        ),
        "config.penalty.every: there is no penalty; leave it at 1, or set penalty.name": (
            config.penalty.every > 1 and not penalised
        ),
        "config.decay: cosine falls over decay_steps, and 0 of them are constant rates; set decay_steps": (
            config.decay != "linear" and config.decay_steps == 0
        ),
        "config.clip and config.penalty.name: a clipped critic with a gradient penalty is no known method; "
        "set clip=0, penalty.name=none, or clip_with_penalty=True if you mean it": (
            config.clip > 0 and penalised and not config.clip_with_penalty
        ),
        f"config.model.critic_normalization: {config.model.critic_normalization} normalisation mixes the examples, so a "
        f"per-example penalty is meaningless (Gulrajani 2017, section 4); use {mixing_none}": (
            penalised and config.model.critic_normalization in mixing
        ),
        "config.terms.classification: there are no class logits; set model.classes to the number of the data's classes": (
            config.terms.classification > 0 and config.model.classes == 0
        ),
        f"config.conditioning.name: {config.conditioning.name} tells the critic the labels that model.classes has it find; "
        "use none": config.conditioning.name != "none" and config.model.classes > 0,
        "config.data.labels: only terms.classification reads labels, and it is 0; leave data.labels at 0": (
            config.data.labels > 0 and config.terms.classification == 0
        ),
        f"config.penalty.dtype: bfloat16 is for networks that compute in it, not with config.dtype={config.dtype}": (
            config.penalty.dtype == "bfloat16" and config.dtype != "bfloat16"
        ),
        f"config.model.remat: only the blocks of model.name=resnet are computed again, and this is {config.model.name}": (
            config.model.remat and config.model.name != "resnet"
        ),
        "config.model.normalize_first: of a convolutional critic, which model.name="
        f"{' and '.join(CONVOLUTIONAL)} have, not of {config.model.name}": (
            config.model.normalize_first and config.model.name not in CONVOLUTIONAL
        ),
        f"config.model.critic_normalization: {config.model.critic_normalization} refers to a batch of fixed latents, so it is "
        f"the generator's alone (Salimans 2016, section 3.5); use {mixing_none}": (
            config.model.critic_normalization in referring
        ),
        f"config.model.critic_head: {config.model.critic_head} mixes the examples, so a per-example penalty is meaningless; "
        "set penalty.name=none or critic_head=linear": penalised and mixing_head,
        f"config.batch_size: {config.model.critic_head} needs at least 2 examples": config.batch_size < 2 and mixing_head,
        f"config.conditioning.name: {config.conditioning.name} needs labels, and data.name={config.data.name} has none": (
            config.conditioning.name != "none" and not {"images", "arrays", "tables"} & datasets[config.data.name].keys()
        ),
        f"config.data.labels: {config.data.labels} are seen, and conditioning.name={config.conditioning.name} needs them "
        "all; leave it at 0": config.data.labels > 0 and config.conditioning.name != "none",
        f"config.conditioning.mismatch: is for a critic that is told labels, by conditioning.name={' or '.join(matching)}, "
        f"and this is {config.conditioning.name}": config.conditioning.mismatch > 0
        and config.conditioning.name not in matching,
        "config.conditioning.mismatch: a row of a table has a category of each column, so that another label may be right too; "
        "set it to 0": config.conditioning.mismatch > 0 and datasets[config.data.name].get("tables", False),
        f"config.conditioning.weight: of the classifier that conditioning.name={' or '.join(classifying)} has, of a table not; "
        "leave it at 1": config.conditioning.weight != 1 and not classified,
        f"config.data.image_width: {config.data.image_width} needs a height too; set data.image_size": (
            config.data.image_width > 0 and config.data.image_size == 0
        ),
        "config.data.crop: False stretches images to data.image_size, which is 0; set it": (
            not config.data.crop and config.data.image_size == 0
        ),
        f"config.batch_size: {config.batch_size} is not divisible by config.devices={config.devices}": (
            config.devices > 0 and config.batch_size % config.devices != 0
        ),
        f"config.packing: batch_size={config.batch_size} is no whole number of packs of {config.packing} on each device": (
            config.batch_size % (max(config.devices, 1) * config.packing) != 0 and config.packing > 1
        ),
        "config.packing: a pack of several labels has no label of its own; set packing=1, or conditioning.name to none or "
        f"{' or '.join(packing)} and model.classes=0": config.packing > 1
        and (config.conditioning.name not in ("none", *packing) or config.model.classes > 0),
        "config.packing: a wrong label is one example's, not a pack's; set packing=1, or conditioning.mismatch=0": (
            config.packing > 1 and config.conditioning.mismatch > 0
        ),
        f"config.latent.low: {config.latent.low:g} is not below config.latent.high={config.latent.high:g}": (
            config.latent.name == "uniform" and config.latent.low >= config.latent.high
        ),
        f"config.warmup.critic_steps: {config.warmup.critic_steps} is not a multiple of n_critic={config.n_critic}": (
            config.n_critic > 0 and config.warmup.critic_steps % config.n_critic != 0
        ),
        f"config.n_critic: {config.n_critic} with objective={config.objective}, which has "
        f"{'a critic that must be trained; set it to 1 or more' if has_critic else 'no critic; set it to 0'}": (
            (config.n_critic > 0) != has_critic
        ),
        f"config.batch_size: {' and '.join(mixed)} normalisation needs at least 2 examples": (
            config.batch_size < 2 and mixed != []
        ),
        "config.loss: a wasserstein critic without a penalty, clipping or a kernel that bounds its slope, and no normalisation "
        "or other head beside it, is unbounded; set penalty.name and its weight, clip or model.critic_kernel": (
            has_critic and config.loss == "wasserstein" and not (weighs or config.clip > 0 or held)
        ),
        f"config.model.critic_normalization: {config.model.critic_normalization} normalisation divides by a spread that may be "
        f"near 0, so that model.critic_kernel={config.model.critic_kernel} bounds no slope; use none": (
            kernel.get("lipschitz", False) and normalised
        ),
        f"config.clip: clipping beside model.critic_kernel={config.model.critic_kernel} is two constraints on the same "
        "parameters; set clip=0 or model.critic_kernel=none": config.clip > 0 and kernel.get("bounded", False),
        f"config.model.width: maxmin sorts pairs of channels, and {config.model.width} is odd": (
            "maxmin" in (config.model.critic_activation, config.model.generator_activation) and config.model.width % 2 != 0
        ),
        f"config.inputs.augment: {config.inputs.augment} is of images, and data.name={config.data.name} has none": (
            config.inputs.augment != "" and not datasets[config.data.name].get("images", False)
        ),
        f"config.eval.features: {config.eval.features} is for images, and data.name={config.data.name} has none; use pixels": (
            config.eval.features != "pixels" and not datasets[config.data.name].get("images", False)
        ),
        "config.eval.metrics: wasserstein is not among them, and `best` is chosen by it": (
            not {"all", "wasserstein"} & set(config.eval.metrics.split(","))
        ),
    }
    lines = [line for line, wrong in checks.items() if wrong] + _unread(config.data, datasets)
    return lines if has_critic else lines + _without_critic(config.objective, flat)


def _without_critic(objective: str, flat: dict[str, Any]) -> list[str]:
    """Returns a line for every part of a critic's training that is asked for where the objective has no critic."""
    switches = [key for key in keys_of("switch") if not key.startswith(("critic.", "generator."))]
    idle: dict[str, Any] = dict.fromkeys(("replay.capacity", "warmup.critic_steps", "unroll", *switches), 0)
    idle |= {
        "penalty.name": "none",
        "conditioning.name": "none",
        "inputs.augment": "",
        "packing": 1,
        "generator.loss_weight": 1.0,
    }
    reason = f"objective={objective} has no critic for it"
    return [f"config.{key}: {reason}; leave it at {value!r}" for key, value in idle.items() if flat[key] != value]


def _unread(data: ConfigDict, datasets: dict[str, dict[str, Any]]) -> list[str]:
    """Returns a line for every key of config.data that asks for what the dataset does not read."""
    lines = []
    for key, row in KEYS.items():
        if row.idle is None:
            continue
        leaf = key.removeprefix("data.")
        readers = [
            name
            for name, told in datasets.items()
            if leaf in told.get("reads", ()) or (row.role == "augmentation" and told.get("images", False))
        ]
        if data.name not in readers and data[leaf] != row.idle:
            who = " or ".join(readers)
            lines.append(f"config.{key}: read by data.name={who}, not by {data.name}; leave it at {row.idle!r}")
    return lines
