"""R3GAN: each generated example is scored against a real one, and the slope is penalised at both.

Paper: Huang et al. 2024, "The GAN is dead; long live the GAN! A Modern Baseline GAN", arXiv 2501.05441, equations 2 and 6: the
relativistic pairing loss with gamma / 2 (R1 + R2), Adam without momentum, no normalisation. Its networks are not here.
Command: python -m experiments.run --config=configs/r3gan.py[:preset[,paper=True]] [--config.penalty.points=real]
Presets, run times and results: the tables of README.md. penalty.weight is gamma / 2.
"""

from ml_collections import ConfigDict

from configs import default


def get_config(preset: str = "digits") -> ConfigDict:
    config, name, paper = default.start("r3gan", preset)
    config.loss = "relativistic"
    config.penalty.update({"name": "zero_centred", "weight": 0.5, "points": "real_and_generated"})  # gamma 1
    if name in default.TOYS:
        config.penalty.weight = 0.05
    if paper:
        default.paper(config)
    config.n_critic = 1
    config.model.update({"generator_normalization": "none", "critic_normalization": "none"})
    default.set_optimizers(config, beta1=0.0, beta2=0.99)
    return config
