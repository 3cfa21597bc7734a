import numpy as np
import pytest
import torch
from torch import nn

from coterie.config import FitSettings, HardwareSettings, TrainingSettings
from coterie.data.batches import Augmentation, training_batches
from coterie.errors import TrainingError
from coterie.progress import SILENT, Progress
from coterie.training.fabric import make_fabric
from coterie.training.hooks import TrainingHook
from coterie.training.loop import make_optimizer, make_schedule, train
from helpers import make_splits

CPU = HardwareSettings(accelerator="cpu", precision="fp32", threads=1)


class Recorder(Progress):
    def __init__(self) -> None:
        self.steps, self.images, self.loss, self.right = 0, 0, 0.0, 0.0

    def advance(self, steps, n_images=0, loss=None, accuracy=None) -> None:
        self.steps += steps
        self.images += n_images
        self.loss += loss * n_images
        self.right += accuracy * n_images


def small_network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(800, 8))


def batches(batch_size: int = 32):
    splits = make_splits()
    return training_batches(
        splits.train, splits.preprocessing, Augmentation(1, False), batch_size=batch_size, seed=0, workers=0
    )


def test_training_learns_reports_each_step_and_ends_in_evaluation_mode() -> None:
    recorder, network = Recorder(), small_network()
    history = train(make_fabric(CPU), network, batches(), TrainingSettings(epochs=4, learning_rate=0.05), recorder)
    assert len(history) == 4
    assert history[-1].loss < 0.6 * history[0].loss
    assert history[-1].accuracy > 0.6
    assert recorder.steps == 4 * 6
    assert recorder.images == 4 * 6 * 32
    # The figures shown while it runs are those of the history.
    assert recorder.loss / recorder.images == pytest.approx(np.mean([record.loss for record in history]), rel=1e-4)
    assert recorder.right / recorder.images == pytest.approx(np.mean([record.accuracy for record in history]), rel=1e-4)
    assert not network.training


def test_in_bf16_depthwise_gradients_are_those_of_fp32_and_end_with_the_training() -> None:
    torch.manual_seed(0)
    depthwise = nn.Conv2d(1, 8, 3), nn.Conv2d(8, 8, 3, groups=8), nn.Flatten(), nn.Linear(512, 8)
    network, made_by = nn.Sequential(*depthwise), set()
    depthwise[1].register_forward_hook(lambda module, _, out: made_by.add((module.training, str(out.grad_fn))))
    in_bf16 = make_fabric(CPU.model_copy(update={"precision": "bf16"}))
    train(in_bf16, network, batches(), TrainingSettings(epochs=1, learning_rate=0.01), SILENT)
    assert all(training and "_Depthwise" in function for training, function in made_by)
    made_by.clear()
    with in_bf16.autocast():
        network(torch.zeros(2, 1, 12, 12))
    assert all("_Depthwise" not in function for _, function in made_by)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_the_loop_takes_the_steps_that_plain_torch_takes(optimizer: str) -> None:
    settings = TrainingSettings(
        epochs=2, optimizer=optimizer, learning_rate=0.02, schedule="cosine", label_smoothing=0.1, clip_norm=0.5
    )
    ours, plain = small_network(), small_network()
    train(make_fabric(CPU), ours, batches(), settings, SILENT)
    decayed = [p for p in plain.parameters() if p.ndim > 1]
    rest = [p for p in plain.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 5e-4}, {"params": rest, "weight_decay": 0.0}]
    if optimizer == "sgd":
        reference = torch.optim.SGD(groups, lr=0.02, momentum=0.9, nesterov=True)
    else:
        reference = torch.optim.AdamW(groups, lr=0.02)
    data = batches()
    total = 2 * len(data)
    for step in range(total):
        if step % len(data) == 0:
            stream = data.epoch(step // len(data), torch.device("cpu"))
        for group in reference.param_groups:
            group["lr"] = 0.02 * 0.5 * (1 + np.cos(np.pi * step / total))
        inputs, labels = next(stream)
        loss = nn.functional.cross_entropy(plain(inputs), labels, label_smoothing=0.1)
        reference.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(plain.parameters(), 0.5)
        reference.step()
    for mine, theirs in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-5)


def test_the_loss_is_an_argument() -> None:
    """Distillation: towards the answers of a teacher, at a temperature; label smoothing is the default loss's own."""
    teacher_CC, seen = torch.randn(8, 8, generator=torch.Generator().manual_seed(0)), []

    def loss(logits_BC: torch.Tensor, label_B: torch.Tensor) -> torch.Tensor:
        target_BC = (teacher_CC[label_B] / 3).softmax(1)
        seen.append(nn.functional.kl_div((logits_BC / 3).log_softmax(1), target_BC, reduction="batchmean"))
        return seen[-1]

    settings = TrainingSettings(epochs=3, learning_rate=0.05, label_smoothing=0.1)
    history = train(make_fabric(CPU), small_network(), batches(), settings, SILENT, loss=loss)
    means = torch.stack(seen).detach().view(3, 6).mean(1)
    torch.testing.assert_close(torch.tensor([record.loss for record in history]), means)
    assert means[-1] < means[0]


def test_the_default_loss_is_smoothed_cross_entropy_bit_for_bit() -> None:
    settings, networks = TrainingSettings(epochs=1, label_smoothing=0.2), [small_network(), small_network()]
    train(make_fabric(CPU), networks[0], batches(), settings, SILENT)
    train(make_fabric(CPU), networks[1], batches(), settings, SILENT, loss=nn.CrossEntropyLoss(label_smoothing=0.2))
    for first, second in zip(*(n.parameters() for n in networks), strict=True):
        assert torch.equal(first, second)


def test_the_same_seed_gives_the_same_weights_bit_for_bit() -> None:
    networks = [small_network(), small_network()]
    for network in networks:
        torch.manual_seed(np.random.default_rng().integers(1000))  # the global generator must not matter
        train(make_fabric(CPU), network, batches(), TrainingSettings(epochs=2), SILENT)
    for first, second in zip(*(n.parameters() for n in networks), strict=True):
        assert torch.equal(first, second)


def test_norms_and_biases_are_not_decayed() -> None:
    optimizer = make_optimizer(small_network(), TrainingSettings(weight_decay=0.1))
    decayed, rest = optimizer.param_groups
    assert decayed["weight_decay"] == 0.1
    assert all(p.ndim > 1 for p in decayed["params"])
    assert rest["weight_decay"] == 0
    assert len(rest["params"]) == 3


def rates_of(settings: TrainingSettings, steps: int) -> list[float]:
    """The learning rate of each step."""
    optimizer = make_optimizer(small_network(), settings)
    schedule = make_schedule(optimizer, settings, steps)
    rates = []
    for _ in range(steps):
        rates.append(float(schedule.get_last_lr()[0]))
        optimizer.step()
        schedule.step()
    return rates


def test_one_cycle_rises_to_its_peak_and_falls() -> None:
    settings = TrainingSettings(learning_rate=0.4, warmup_share=0.25)
    rates = rates_of(settings, 100)
    assert max(rates) == pytest.approx(0.4)
    assert abs(int(np.argmax(rates)) - 24) <= 1
    assert rates[0] < 0.1
    assert rates[-1] < 1e-3


def test_a_loss_that_is_not_finite_stops_and_names_the_step() -> None:
    network = small_network()
    with pytest.raises(TrainingError, match=r"became (nan|inf) at step \d+. Try a lower learning_rate"):
        train(make_fabric(CPU), network, batches(), TrainingSettings(epochs=20, learning_rate=1e30), SILENT)


def test_defaults_train_the_base_and_decay_gently_for_specialists() -> None:
    settings = FitSettings()
    assert settings.specialist.epochs == 15
    assert settings.specialist.learning_rate < settings.base.learning_rate


class Counting(Progress):
    def __init__(self) -> None:
        self.steps: list[int] = []

    def advance(self, steps, n_images=0, loss=None, accuracy=None) -> None:
        self.steps.append(steps)


class Cutting(TrainingHook):
    """Ends the training after so many steps, or epochs, and starts the next one from the state it kept."""

    def __init__(self, after: int, unit: str = "step") -> None:
        self.after, self.unit, self.state = after, unit, None

    def load(self):
        return self.state

    def step(self, capture) -> None:
        self._count("step", capture)

    def epoch(self, history, capture) -> None:
        self._count("epoch", capture)

    def _count(self, unit: str, capture) -> None:
        if unit != self.unit:
            return
        self.after -= 1
        if self.after == 0:
            self.state = {name: tensor.clone() for name, tensor in capture().items()}
            raise KeyboardInterrupt


@pytest.mark.parametrize("decay", [0.0, 0.9])
@pytest.mark.parametrize(("after", "unit"), [(1, "step"), (6, "step"), (8, "step"), (18, "step"), (1, "epoch")])
def test_a_training_cut_at_any_step_ends_with_the_same_bits_dropout_included(after: int, unit: str, decay) -> None:
    networks = [small_network().append(nn.Dropout(0.3)) for _ in range(2)]
    settings, histories = TrainingSettings(epochs=3, average_decay=decay), []
    histories.append(train(make_fabric(CPU), networks[0], batches(), settings, SILENT))
    hook, recorder = Cutting(after, unit), Counting()
    with pytest.raises(KeyboardInterrupt):
        train(make_fabric(CPU), small_network().append(nn.Dropout(0.3)), batches(), settings, SILENT, hook=hook)
    histories.append(train(make_fabric(CPU), networks[1], batches(), settings, recorder, hook=hook))
    assert sum(recorder.steps) == 3 * 6
    assert recorder.steps[0] == (after if unit == "step" else 6)
    assert histories[0] == histories[1]
    for first, second in zip(*(n.state_dict().values() for n in networks), strict=True):
        assert torch.equal(first, second)


def test_with_a_decay_the_running_average_of_all_steps_is_the_result() -> None:
    class Following(TrainingHook):
        mean: dict[str, torch.Tensor] | None = None

        def step(self, capture) -> None:
            last = {name.removeprefix("network."): t for name, t in capture().items() if name.startswith("network.")}
            before = self.mean or last
            self.mean = {name: 0.8 * before[name] + 0.2 * tensor for name, tensor in last.items()}

    network, hook = small_network(), Following()
    train(make_fabric(CPU), network, batches(), TrainingSettings(epochs=2, average_decay=0.8), SILENT, hook=hook)
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor, hook.mean[name], rtol=1e-4, atol=1e-5)


def test_a_rate_may_rise_in_one_step() -> None:
    settings = TrainingSettings(learning_rate=0.4, warmup_share=0.1)
    rates = rates_of(settings, 10)
    assert max(rates) == pytest.approx(0.4, rel=0.05)
    assert rates[-1] < 1e-3
