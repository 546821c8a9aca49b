"""Super-resolution: an adversarial generator makes x_h of x_l, and the HR classifier looks at that.

Ledig et al. 2017 (SRGAN): residual generator with pixel shuffles, discriminator, a loss in the features of a
classifier, 1e-3 of the adversarial loss, all after a generator trained on pixels alone. What differs:
- The features are f_cl^h's own last map, not VGG19's: no VGG is at hand, and it is this classifier that will
  look. Their squared error is told relative to the features' mean square, and the pixels' error is kept
  beside it, so that the output stays an image.
- The generator adds to the bilinearly upsampled x_l and starts with nothing to add; it is narrower and
  shallower, and its last convolution is 5x5, not 9x9: what a CPU can train. The upscaling is one pixel
  shuffle by 2 after another, all of one width, so ds 32 has five.
- The discriminator ends in a mean over places, so that crops of any size can be judged.
- Images above 64 px are learned from in random crops of half the side and answered whole.
"""

import copy
import math
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer

from models.baselines.common import augmented, descend, frozen, new, optimiser, pixels
from models.data.degrade import area_average, to_px
from models.networks.build import PatchwiseStem
from models.reproduce.answers import Answers
from models.reproduce.bench import Bench
from models.reproduce.learner import Learner
from models.stages.draws import Draws
from models.stages.inputs import Batch, Indices

ADVERSARIAL = 1e-3
WIDTH, BLOCKS = 32, 4
_WHOLE_PX = 64
_AT_ONCE = 16  # whole images: 64 of 256 px would take 2 GB
_WARM = 6  # one epoch of so many is on pixels alone, and at least one where there are two


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.PReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.BatchNorm2d(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.layers(x)
        return y


class Generator(nn.Module):
    """(B, 3, h, w) -> (B, 3, ds h, ds w), both in [-1, 1]. Raises ValueError where ds is no power of 2."""

    def __init__(self, ds: int, width: int = WIDTH, blocks: int = BLOCKS) -> None:
        super().__init__()
        if ds < 1 or ds & (ds - 1):
            raise ValueError(f"pixel shuffles by 2 make powers of 2, not {ds}")
        self.ds = ds
        self.enter = nn.Sequential(nn.Conv2d(3, width, 9, padding=4), nn.PReLU())
        self.residual = nn.Sequential(
            *(_Residual(width) for _ in range(blocks)),
            nn.Conv2d(width, width, 3, padding=1),
            nn.BatchNorm2d(width),
        )
        shuffles = [
            nn.Sequential(nn.Conv2d(width, 4 * width, 3, padding=1), nn.PixelShuffle(2), nn.PReLU())
            for _ in range(int(math.log2(ds)))
        ]
        self.upscale = nn.Sequential(*shuffles)
        self.leave = nn.Conv2d(width, 3, 5, padding=2)
        nn.init.zeros_(self.leave.weight)
        assert self.leave.bias is not None
        nn.init.zeros_(self.leave.bias)

    def forward(self, lr: Tensor) -> Tensor:
        x = self.enter(lr)
        added: Tensor = self.leave(self.upscale(x + self.residual(x)))
        return to_px(lr, lr.shape[-1] * self.ds) + added.float()


class Discriminator(nn.Module):
    """(B, 3, H, W) in [-1, 1] -> (B,) logits of being a real HR image."""

    def __init__(self, width: int = WIDTH) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, width, 3, padding=1), nn.LeakyReLU(0.2)]
        inputs = width
        for outputs, stride in ((width, 2), (2 * width, 1), (2 * width, 2), (4 * width, 1), (4 * width, 2)):
            convolution = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
            layers += [convolution, nn.BatchNorm2d(outputs), nn.LeakyReLU(0.2)]
            inputs = outputs
        self.layers = nn.Sequential(*layers)
        self.judge = nn.Sequential(nn.Linear(inputs, 8 * width), nn.LeakyReLU(0.2), nn.Linear(8 * width, 1))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.judge(self.layers(x).mean(dim=(2, 3)))
        return logits[:, 0].float()


class ClassifierFeatures:
    """The last map of features that f_cl^h makes of an image in [-1, 1]: (B, 3, H, H) -> (B, C, h, h)."""

    def __init__(self, bench: Bench, px: int) -> None:
        system = bench.system
        self.system, stem = system, copy.deepcopy(system.hr.stem)
        if isinstance(stem, PatchwiseStem):  # a crop has fewer patches, of the same size
            stem.grid = stem.grid * px // system.architecture.hr_px
        self.stem, self.body = stem, frozen(system.hr.body)
        self._kept: Tensor | None = None
        self._hook(px)

    def _hook(self, px: int) -> None:
        """Keep what the last module says that still has places: it is found by looking at an empty image."""
        makers: list[nn.Module] = []

        def look(module: nn.Module, _: object, out: Tensor) -> None:
            if out.dim() == 4 and out.shape[-1] > 1:
                makers.append(module)

        hooks = [module.register_forward_hook(look) for module in self.body.modules()]
        with torch.no_grad():
            self(torch.zeros(1, 3, px, px, device=self.system.mean.device))
        for hook in hooks:
            hook.remove()
        makers[-1].register_forward_hook(self._keep)

    def _keep(self, _: nn.Module, __: object, out: Tensor) -> None:
        self._kept = out

    def __call__(self, image: Tensor) -> Tensor:
        said: Tensor = self.body(self.stem(self.system.normalised(to_255(image))))
        kept, self._kept = self._kept, None
        return said if kept is None else kept.float()


def to_unit(x: Tensor) -> Tensor:
    """0..255 -> -1..1."""
    return x / 127.5 - 1


def to_255(x: Tensor) -> Tensor:
    """-1..1 -> 0..255."""
    return (x + 1) * 127.5


def relative_error(found: Tensor, wanted: Tensor) -> Tensor:
    """The mean squared error as a share of the mean square of what is wanted."""
    return functional.mse_loss(found, wanted) / wanted.square().mean().clamp_min(1e-6)


def crop_px(hr_px: int, ds: int) -> int:
    """The side of what is learned from: half of a large image where LR pixels allow it."""
    half = hr_px // 2
    return half if hr_px > _WHOLE_PX and hr_px % 2 == 0 and half % ds == 0 else hr_px


def crops(images: Tensor, px: int, draws: Draws) -> Tensor:
    """A random square (B, 3, px, px) of each of the images (B, 3, H, H)."""
    room = images.shape[-1] - px
    if not room:
        return images
    places = draws.integers(0, room + 1, (len(images), 2)).tolist()
    cut = [
        image[:, top : top + px, left : left + px] for image, (top, left) in zip(images, places, strict=True)
    ]
    return torch.stack(cut)


class Pixelwise(Learner):
    """The generator by the pixels' squared error alone."""

    def __init__(self, bench: Bench, generator: Generator, rate: float) -> None:
        self.bench, self.generator = bench, generator
        self.px = crop_px(bench.recipe.images.hr_px, bench.ds)
        self._optimiser = optimiser(bench, (generator.parameters(), rate))

    def modules(self) -> dict[str, nn.Module]:
        return {"generator": self.generator}

    def optimisers(self) -> dict[str, Optimizer]:
        return {"generator": self._optimiser}

    def step(self, indices: Indices, batch: Batch, draws: Draws) -> dict[str, float]:
        del batch
        self.generator.train()
        hr, fake = self._pair(indices, draws)
        loss = functional.mse_loss(fake, hr)
        descend(self._optimiser, loss)
        return {"pixels": float(loss.detach())}

    def _pair(self, indices: Indices, draws: Draws) -> tuple[Tensor, Tensor]:
        """Real HR squares and what the generator makes of their LR."""
        hr = crops(augmented(self.bench, indices, draws), self.px, draws)
        with self.bench.autocast():
            fake = self.generator(to_unit(area_average(hr, self.bench.ds)))
        return to_unit(hr), fake


class Adversarial(Pixelwise):
    """Generator against discriminator, with the classifier's features."""

    def __init__(self, bench: Bench, generator: Generator, rate: float) -> None:
        super().__init__(bench, generator, rate)
        self.discriminator = new(bench, Discriminator)
        self.features = ClassifierFeatures(bench, self.px)
        self._against = optimiser(bench, (self.discriminator.parameters(), rate))

    def modules(self) -> dict[str, nn.Module]:
        return {"generator": self.generator, "discriminator": self.discriminator}

    def optimisers(self) -> dict[str, Optimizer]:
        return {"generator": self._optimiser, "discriminator": self._against}

    def step(self, indices: Indices, batch: Batch, draws: Draws) -> dict[str, float]:
        del batch
        self.generator.train()
        self.discriminator.train()
        hr, fake = self._pair(indices, draws)
        with self.bench.autocast():
            judged = self.discriminator(fake)
            with torch.no_grad():
                wanted = self.features(hr)
            found = self.features(fake)
        pixelwise, featurewise = functional.mse_loss(fake, hr), relative_error(found, wanted)
        fooled = functional.binary_cross_entropy_with_logits(judged, torch.ones_like(judged))
        descend(self._optimiser, pixelwise + featurewise + ADVERSARIAL * fooled)
        with self.bench.autocast():
            real, made = self.discriminator(hr), self.discriminator(fake.detach())
        told_apart = functional.binary_cross_entropy_with_logits(
            torch.cat([real, made]), torch.cat([torch.ones_like(real), torch.zeros_like(made)])
        )
        descend(self._against, told_apart)
        return {
            "pixels": float(pixelwise.detach()),
            "features": float(featurewise.detach()),
            "discriminator": float(told_apart.detach()),
        }


@torch.no_grad()
def super_resolved(bench: Bench, generator: nn.Module, images: Tensor) -> Tensor:
    """HR pixels (B, 3, H, H), 0..255 -> what the generator makes of their x_l, likewise."""
    made = to_255(generator(to_unit(area_average(images, bench.ds)))).clamp(0, 255)
    return to_px(made, images.shape[-1])


def trained(bench: Bench) -> Generator:
    """The generator after its epochs on pixels and those against the discriminator."""
    plan = bench.plan("srgan")
    generator = new(bench, lambda: Generator(bench.ds))
    warm = replace(plan, epochs=max(plan.epochs // _WARM, min(1, plan.epochs // 2)))
    key = bench.fit("srgan-pixels", Pixelwise(bench, generator, plan.lr), warm)
    rest = replace(plan, epochs=plan.epochs - warm.epochs)
    bench.fit("srgan", Adversarial(bench, generator, plan.lr), rest, (key,))
    return generator.eval()


def srgan(bench: Bench) -> Answers:
    """The HR classifier's answers to the super-resolved unseen images, S = 0."""
    generator, system, exact = trained(bench), bench.system, bench.study.exact(bench.recipe, bench.ds)
    system.hr.eval()
    said = []
    for indices, _ in bench.unseen(_AT_ONCE):
        made = super_resolved(bench, generator, pixels(bench, indices))
        with torch.no_grad():
            said.append(system.hr.body(exact.hr_features(made)).softmax(dim=1).cpu())
    return Answers(torch.cat(said), torch.zeros(len(bench.tests), bench.patches))
