"""Semi-supervised GAN: the critic tells the K classes apart, and "generated" as one more; few labels are seen.

Paper: Salimans et al. 2016, "Improved Techniques for Training GANs", arXiv 1606.03498, section 5. Of K + 1 logits that of
"generated" is held at 0: the critic has the cross-entropy over the classes of the labelled examples and, of all, that of a
discriminator with the logit log sum exp of the class logits; the generator matches features.
Command: python -m experiments.run --config=configs/semi_supervised.py[:preset[,paper=True]] [--config.data.labels=N]
The supervised baseline of the same network: --config.critic.loss_weight=0
Presets, run times and results: the tables of README.md; classifier_error is the share of held-out examples that the critic puts
into a wrong class. Digits has 100 labels, other images all of theirs, and folders of several classes need
--config.model.classes=K. On the toys, whose examples are of one class, it is a GAN that matches features.
"""

from ml_collections import ConfigDict

from configs import default

CLASSES = {"digits": 10, "mnist": 10, "fashion_mnist": 10, "cifar10": 10}


def get_config(preset: str = "digits") -> ConfigDict:
    config, name, paper = default.start("semi_supervised", preset)
    config.loss = "non_saturating"
    config.n_critic = 1
    config.model.classes = CLASSES.get(name, 1)
    config.terms.update({"classification": 1.0, "feature_matching": 1.0})
    config.generator.loss_weight = 0.0
    if name == "digits":
        config.data.labels = 100
    if paper:
        default.paper(config)
    return config
