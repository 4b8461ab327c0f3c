"""Every key that the code reads, with its meaning and the source of its value, and the datasets' presets.

A method's file starts from `start(method, preset)` and overrides a few lines. A preset string is the name of a dataset, by
itself or followed by `,paper=True` for a paper's full budget; PRESETS below has them all.
"""

import difflib
import os
from collections.abc import Callable

from ml_collections import ConfigDict

CACHE = os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "wgan_jax")  # what can be made again


def default_config() -> ConfigDict:
    """Returns the values shared by all methods and presets."""
    config = ConfigDict()
    config.method = ""  # name of the method's file; with preset and seed it names the default workdir
    config.preset = ""  # the preset string
    config.seed = 0
    config.steps = 20_000  # generator updates
    config.batch_size = 64  # global: devices share it (Arjovsky 2017, algorithm 1; Gulrajani 2017, algorithm 2)
    config.n_critic = 5  # critic updates per generator update (both papers); 0 where the objective has no critic
    config.dtype = "float32"  # float32, float64 (CPU), or bfloat16: networks compute in it, parameters stay in float32
    config.devices = 0  # number of devices to use, 0 for all; on a CPU, so many virtual devices

    config.data = ConfigDict()
    config.data.name = "digits"
    config.data.dim = 1  # gaussian: its dimension
    config.data.theta = 1.0  # parallel_lines: the line's distance from (0, u)
    config.data.builder = "fashion_mnist"  # tfds: name[/config][:version] in TensorFlow Datasets' catalogue
    config.data.data_dir = ""  # tfds: where prepared datasets lie; empty for ~/tensorflow_datasets
    config.data.download = False  # tfds: whether what is not there may be downloaded
    # folder: of images; array: an .npy or .npz file, or a folder of .npy files, an example each; table: a .csv or .parquet file
    config.data.path = ""
    config.data.x = "x"  # array: the name of the examples in an .npz
    config.data.y = "y"  # array: that of their classes or attributes, if it is there; or several, comma-separated
    config.data.scaling = "auto"  # array: none, standard, minmax (by feature or channel); auto: uint8 as pixels, else standard
    config.data.columns = ""  # table: what columns are, where not as inferred, NAME:KIND,...: see KINDS in data/kinds.py
    config.data.numbers = "quantile"  # table: how they are scaled: quantile, normal, modes (CTGAN), standard, log
    config.data.balance = 0.0  # table: a condition is drawn as often as rows have it; 1: by the logarithm of that (CTGAN)
    config.data.target = ""  # table: the column that evaluation predicts from the others; empty for the last
    # folder: the column of metadata.csv that is the label, or several; empty for subfolders' paths, none for none
    config.data.label = ""
    config.data.image_size = 0  # height, and width, to which images are cut and resized, antialiased; 0 for as stored
    config.data.image_width = 0  # their width where that is another; 0 for squares
    config.data.crop = True  # cut around the centre to that shape; False stretches
    config.data.channels = 0  # 1, 3, or 4 with transparency; 0 for as stored, without it
    config.data.background = "white"  # colour behind transparent pixels, as CSS writes it
    config.data.skip_damaged = False  # leave out damaged images, or examples with NaN or infinity; else they stop the run
    config.data.holdout = 0.1  # share of the images that validation gets, and test where the source has none of its own
    config.data.dequantise = False  # add uniform noise of one pixel level (Gulrajani 2017's code for CIFAR-10)
    config.data.flip = False  # mirror each training image left to right with probability 1/2
    config.data.labels = 0  # training images whose label training sees, drawn by the seed, of every class as many; 0 for all
    config.data.cache_dir = f"{CACHE}/images"  # of decoded images
    config.data.resident_mb = 2048  # training images of more megabytes stay on disk, and batches are read ahead

    config.latent = ConfigDict()
    config.latent.name = "normal"  # normal: N(0, I); uniform: U[low, high]
    config.latent.dim = 64
    config.latent.low = -1.0
    config.latent.high = 1.0

    config.model = ConfigDict()
    config.model.name = "mlp"  # mlp, dcgan, mlp_dcgan (generator 4 x 8 width), resnet
    config.model.width = 512  # of hidden layers; of the layer next to the image in dcgan and resnet
    config.model.depth = 3  # hidden layers of an mlp
    config.model.generator_activation = "relu"  # relu, leaky_relu (slope 0.2), tanh, shifted_softplus, maxmin, groupsort
    config.model.critic_activation = "relu"
    config.model.initializer = "he_normal"  # he_normal, glorot_uniform, orthogonal, normal (standard deviation .02)
    config.model.generator_normalization = "none"  # none, batch, layer, virtual_batch (Salimans 2016; not of a critic)
    config.model.generator_dropout = 0.0  # rate, in training and in sampling alike, as the latent decides (Isola 2017: .5)
    config.model.critic_normalization = "none"  # batch is refused together with a penalty
    config.model.critic_kernel = "none"  # none, spectral_kernel (Miyato 2018), spectral_operator, orthogonal (Anil 2019)
    config.model.critic_head = "linear"  # linear, minibatch_discrimination (Salimans 2016; refused together with a penalty)
    config.model.normalize_first = False  # dcgan: the critic's first layer too (the anime-face report; not Radford 2016)
    config.model.classes = 0  # a logit of the critic for each class of the data, the score that of "real" in K + 1; 0 for none
    config.model.temperature = 0.2  # table: of the Gumbel-softmax that categories are drawn by (CTGAN: .2)
    config.model.remat = False  # resnet: blocks are computed again in backward passes, which takes time and saves memory

    config.objective = "adversarial"  # adversarial; imle (Li & Malik 2018), which has no critic and reads nothing of one
    config.imle = ConfigDict()
    config.imle.samples = 10  # generated examples per real one of the batch, of which it pulls the nearest
    config.conditioning = ConfigDict()  # on the labels of the data
    config.conditioning.name = "none"  # none, embedding, projection, auxiliary: see models/embedding.py
    config.conditioning.mismatch = 0.0  # share of real examples with a wrong label on the generated side (Reed 2016: .5)
    config.conditioning.weight = 1.0  # auxiliary: of the classifier's cross-entropy, for both players (Odena 2017)

    config.loss = "wasserstein"  # wasserstein, minimax, non_saturating, hinge, least_squares, relativistic
    config.targets = ConfigDict()  # of the critic's scores, 1 of real and 0 of generated; for cross-entropy and least squares
    config.targets.smoothing = 0.0  # real ones are 1 - smoothing (one-sided: Salimans 2016: .1)
    config.targets.noise = 0.0  # each is moved by up to so much towards the other (Chintala 2016: .3)
    config.targets.flip = 0.0  # probability that an example has the other side's (Chintala 2016: "occasionally")
    config.unroll = 0  # critic updates that the generator's loss looks ahead, through their optimizer (Metz 2016: 5 to 10)
    config.packing = 1  # examples that the critic scores together (PacGAN, Lin 2018: 2 to 4; CTGAN: 10)
    config.terms = ConfigDict()  # weights of what is added to a player's loss; 0 for none
    config.terms.feature_matching = 0.0  # generator: |mean f(x) - mean f(G(z))|^2 (Salimans 2016)
    config.terms.drift = 0.0  # critic: f(x)^2 (Karras 2018: .001)
    config.terms.historical_averaging = 0.0  # both: |theta - mean over updates of theta|^2 (Salimans 2016)
    config.terms.classification = 0.0  # critic: cross-entropy of the labels that are seen (Salimans 2016); with model.classes
    config.replay = ConfigDict()  # of generated examples that the critic is shown again (Pfau & Vinyals 2016)
    config.replay.capacity = 0  # examples; 0 for none
    config.replay.share = 0.5  # of a batch
    config.inputs = ConfigDict()  # what the critic is shown of real and generated examples, in both losses and the penalty
    config.inputs.noise = 0.0  # standard deviation of normal noise at the start, in network units; 0 for none
    config.inputs.noise_steps = 0  # generator updates over which it falls linearly to 0 (Sonderby 2017); 0 for constant
    config.inputs.augment = ""  # of images, some of color,translation,cutout (DiffAugment, Zhao 2020); empty for none
    config.penalty = ConfigDict()
    config.penalty.name = "none"  # none, two_sided (GP), one_sided (LP), zero_centred
    config.penalty.weight = 10.0  # lambda (Gulrajani 2017, section 4)
    # interpolates, real (R1), generated (R2), real_and_generated (their sum, R1 + R2), perturbed_real, perturbed_both
    config.penalty.points = "interpolates"
    config.penalty.every = 1  # critic updates: lazily at every k-th, with k times the weight (Karras 2020: 16)
    config.penalty.perturbation = "uniform"  # the noise of perturbed_*: see objectives/penalties.py for the variants
    config.penalty.noise_scale = 0.5  # of the perturbation, in standard deviations of the batch (Kodali 2017)
    config.penalty.dtype = "parameters"  # the pass that it takes computes in their dtype, float32, or as networks in bfloat16
    config.clip = 0.0  # c: parameters are clipped to [-c, c] after each critic update; 0 for no clipping
    config.clip_scope = "all"  # all parameters (Arjovsky 2017) or kernels only
    config.clip_with_penalty = False  # says that clipping and a penalty together are meant
    config.warmup = ConfigDict()  # Arjovsky's code: 100 critic updates while step < 25 or step % 500 == 0
    config.warmup.critic_steps = 0  # critic updates in a warm-up step, a multiple of n_critic; 0 for no warm-up
    config.warmup.first = 25
    config.warmup.every = 500

    for player in ("critic", "generator"):
        config[player] = ConfigDict()
        config[player].optimizer = "adam"  # adam, rmsprop (decay is beta2; epsilon outside the root, as in PyTorch), sgd, lion
        config[player].learning_rate = 1e-4
        config[player].beta1 = 0.5
        config[player].beta2 = 0.9
        config[player].loss_weight = 1.0  # of the loss, beside the terms; 0 trains by these alone
        config[player].weight_decay = 0.0  # decoupled, times the learning rate: adam with it is AdamW; 0 for none
        config[player].max_gradient_norm = 0.0  # to which gradients are scaled down, of all parameters together; 0 for none
    config.decay = "linear"  # linear, cosine: how learning rates fall to 0
    config.decay_steps = 0  # over so many generator updates; 0 for constant
    config.ema_decay = 0.999  # of the generator's average, warmed up as min(d, (1 + t) / (10 + t))

    config.log_every = 100
    config.eval_every = 1000
    config.sample_every = 1000
    config.checkpoint_every = 1000
    config.keep = 3  # newest checkpoints kept, beside the best
    config.eval = ConfigDict()
    # comma-separated; or all
    config.eval.metrics = "wasserstein,precision_recall,copying,classes,labels,label_numbers,modes,quantile"
    config.eval.samples = 500  # of metrics that compare points, real and generated (fewer where a split has fewer)
    config.eval.features = "pixels"  # what the other metrics compare: pixels, classifier (trained on the labels), inception
    config.eval.feature_samples = 500  # of these, real and generated; fewer where pixels fill the memory, or samples of a law
    config.eval.weights = ""  # inception: pytorch-fid's and torch-fidelity's .pth, or an .npz of the same names
    config.eval.cache_dir = f"{CACHE}/classifiers"  # of trained classifiers
    config.eval.draws = 5  # independent repeats of the final evaluation
    config.eval.raw = False  # in training also the generator itself, beside its average: as eval/raw/...
    config.eval.fail = ""  # of sweeps: a run has failed, by its test metrics, where any of METRIC<VALUE,METRIC>VALUE holds
    config.cache_dir = CACHE  # of compiled programs; empty for none
    return config


def start(method: str, preset: str) -> tuple[ConfigDict, str, bool]:
    """Returns the config of a preset, its dataset's name, and whether the paper's full budget is asked for.

    Raises:
      ValueError: the preset string names no dataset or an unknown option.
    """
    name, *options = preset.split(",")
    if name not in PRESETS:
        close = difflib.get_close_matches(name.lower(), PRESETS, 1)
        hint = f"did you mean :{close[0]}? " if close else ""
        raise ValueError(f"{hint}unknown preset {name!r}; one of: {', '.join(PRESETS)}")
    if options not in ([], ["paper=True"], ["paper=False"]):
        raise ValueError(f"unknown option in preset {preset!r}; the only one is paper=True")
    config = default_config()
    config.method, config.preset, config.data.name = method, preset, name
    PRESETS[name](config)
    paper = "paper=True" in options
    if name in LAPTOP and not paper:
        LAPTOP[name](config)
    return config, name, paper


def set_optimizers(config: ConfigDict, **values: float | str) -> None:
    """Gives both players the same optimizer settings."""
    config.critic.update(values)
    config.generator.update(values)


def decay_to_the_end(config: ConfigDict) -> None:
    """Lets the learning rates fall to 0 over all steps, however many: decay_steps follows `steps` until it is given itself."""
    config.decay_steps = config.get_oneway_ref("steps")


def _digits(config: ConfigDict) -> None:
    config.eval.fail = "wasserstein_excess>0.25,smallest_class<0.02"  # of real data -.02 and .07
    config.latent.dim = 32
    config.model.width = 256
    config.steps = 3000
    decay_to_the_end(config)
    set_optimizers(config, learning_rate=1e-3)


def _toy(config: ConfigDict) -> None:
    """Toys of Gulrajani 2017 (figure 3) at a laptop's width; the paper's is 512."""
    config.latent.dim = 2
    config.model.width = 64
    config.batch_size = 256
    config.steps = 8000
    decay_to_the_end(config)
    config.eval_every = 2000  # each takes seconds: distances between 2,000 points
    config.eval.samples = config.eval.feature_samples = 2000
    config.eval.fail = {"ring8": "modes<8", "grid25": "modes<25"}.get(config.data.name, "")
    config.penalty.weight = 0.1  # of the paper's toy code; its text says 10
    set_optimizers(config, learning_rate=2e-3)


def _grid25(config: ConfigDict) -> None:
    """As `_toy`, but 25 modes need more updates, and a third latent dimension to be filled to their width."""
    _toy(config)
    config.latent.dim = 3
    config.model.width = 128
    config.batch_size = 128
    config.steps = 18_000


def _gaussian(config: ConfigDict) -> None:
    """N(2, 1) from U[0, 5] with MLPs of 2 x 128 (Bethune & Coiffier 2018, section 4.1)."""
    config.latent.update({"name": "uniform", "dim": 1, "low": 0.0, "high": 5.0})
    config.model.update({"width": 128, "depth": 2})
    config.batch_size = 128
    config.steps = 3000
    config.ema_decay = 0.998
    config.eval.samples = config.eval.feature_samples = 2000
    config.eval.fail = "wasserstein_quantile>0.15"  # the law's standard deviation is 1
    set_optimizers(config, learning_rate=2e-4)


def _image(config: ConfigDict) -> None:
    """DCGAN at a laptop's width; Gulrajani 2017's code has 64."""
    config.latent.dim = 128
    config.model.update({"name": "dcgan", "width": 32, "generator_normalization": "batch", "critic_activation": "leaky_relu"})
    config.steps = 3200
    decay_to_the_end(config)
    config.log_every, config.sample_every, config.eval_every, config.checkpoint_every = 20, 160, 400, 160
    set_optimizers(config, learning_rate=5e-4)


def _tfds(builder: str) -> Callable[[ConfigDict], None]:
    def preset(config: ConfigDict) -> None:
        _image(config)
        config.data.update({"name": "tfds", "builder": builder})
        config.eval.metrics += ",frechet,kernel,density_coverage"
        config.eval.update({"features": "classifier", "feature_samples": 2000})

    return preset


def _pixels(config: ConfigDict) -> None:
    """MLPs of pixels, batch normalisation in the generator: on a CPU ahead of DCGANs by the second.

    Measured on Fashion-MNIST, see configs/ablations/networks.py, and on faces; mnist follows them unmeasured.
    """
    config.model.update({"name": "mlp", "width": 512, "generator_normalization": "batch", "critic_activation": "leaky_relu"})
    config.n_critic = 2
    config.steps = 40_000
    config.log_every, config.sample_every, config.eval_every, config.checkpoint_every = 100, 2000, 4000, 2000


def _aligned(config: ConfigDict) -> None:
    """As `_pixels`, for faces that lie alike, half an hour on two cores. Measured in docs/ablations.md, of WGAN-GP."""
    _pixels(config)
    config.steps = 10_000
    config.log_every, config.sample_every, config.eval_every, config.checkpoint_every = 20, 500, 2500, 500


def _folder(config: ConfigDict) -> None:
    """Images of any folder, 64 x 64, by the anime-face report's DCGAN: latent 100, and at full size batch 128 and width 64.

    Not mirrored: drawn faces may all look one way, and would be joined by as many that no real one is like.
    """
    _image(config)
    config.data.update({"name": "folder", "image_size": 64, "channels": 3})
    config.latent.dim = 100
    config.n_critic = 2  # the report's; of a laptop's minutes more go to the generator
    config.steps = 1600


def _array(config: ConfigDict) -> None:
    """Arrays of any shape, by an MLP: vectors, series, images of any number of channels, volumes."""
    config.latent.dim = 32
    config.model.width = 256
    config.steps = 3000
    decay_to_the_end(config)
    set_optimizers(config, learning_rate=5e-4)


def _table(config: ConfigDict) -> None:
    """Rows of a table, after CTGAN (Xu 2019), of which `paper=True` has the packs of 10 and more; tuned for seconds."""
    config.latent.dim = 128
    config.model.update({"width": 256, "depth": 2, "critic_activation": "leaky_relu"})
    config.model.update({"generator_normalization": "batch", "critic_normalization": "layer"})
    config.batch_size, config.n_critic = 480, 1
    config.steps = 4000
    decay_to_the_end(config)
    config.eval_every = config.sample_every = config.checkpoint_every = 2000
    config.eval.metrics = "wasserstein,copying,columns,associations,detection,utility"
    config.eval.feature_samples = 2000
    set_optimizers(config, learning_rate=1e-3, beta1=0.0)


TOYS = {
    "gaussian": _gaussian,
    "ring8": _toy,
    "grid25": _grid25,
    "swiss_roll": _toy,
    "parallel_lines": _toy,
}
IMAGES = {
    "mnist": _tfds("mnist"),
    "fashion_mnist": _tfds("fashion_mnist"),
    "cifar10": _tfds("cifar10"),
    "faces64": _folder,
    "folder": _folder,
}
LAPTOP = {"mnist": _pixels, "fashion_mnist": _pixels, "faces64": _aligned}  # over the preset, unless paper=True
PRESETS = {"digits": _digits, **TOYS, **IMAGES, "array": _array, "table": _table}


def paper(config: ConfigDict) -> None:
    """Restores the published budget and sizes of a preset.

    Toys: 3 x 512 ReLU, batch 256, Adam 1e-4 (.5, .9), 100,000 steps (Gulrajani 2017, toy code). Digits has no paper of its
    own: the algorithm's numbers of Gulrajani 2017 (Adam 1e-4 with betas 0, .9, batch 64) for 100,000 steps. Gaussian keeps its
    2 x 128. MNIST and Fashion-MNIST: DCGAN of width 64, batch 50, Adam 1e-4 (.5, .9), 200,000 steps (Gulrajani 2017, MNIST
    code). CIFAR-10: ResNet of width 128, Adam 2e-4 (0, .9) falling to 0 over 100,000 steps, dequantised (Gulrajani 2017,
    appendix F). Folders: width 64, batch 128, Adam 1e-4 (.5, .9), 15,000 steps (anime-face report: 50 epochs).
    Tables: CTGAN's numbers (Xu 2019), for what 300 epochs are of 50,000 rows.
    """
    name = config.preset.split(",", maxsplit=1)[0]
    config.steps, config.decay_steps = 100_000, 0
    if name == "digits":
        set_optimizers(config, learning_rate=1e-4, beta1=0.0, beta2=0.9)
    else:
        set_optimizers(config, learning_rate=1e-4, beta1=0.5, beta2=0.9)
    if name in TOYS and name != "gaussian":
        config.model.width, config.batch_size, config.latent.dim = 512, 256, 2
    elif name in ("mnist", "fashion_mnist"):
        config.model.width, config.batch_size, config.steps = 64, 50, 200_000
    elif name == "cifar10":
        config.model.update({"name": "resnet", "width": 128, "critic_activation": "relu"})
        decay_to_the_end(config)
        config.data.dequantise = True
        set_optimizers(config, learning_rate=2e-4, beta1=0.0, beta2=0.9)
    elif name == "table":
        config.batch_size, config.steps, config.data.numbers = 500, 30_000, "modes"
        config.data.balance = 1.0
        config.model.critic_normalization = "none"
        if config.objective == "adversarial" and config.model.classes == 0:
            config.packing, config.conditioning.name = 10, "embedding"
        set_optimizers(config, learning_rate=2e-4)
        config.generator.weight_decay = 1e-6
    elif name in ("faces64", "folder"):
        config.model.width, config.batch_size, config.steps = 64, 128, 15_000
