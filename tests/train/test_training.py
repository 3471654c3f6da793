import contextlib
import copy
import json
import math
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from asr.features import MEL_HZ, SILENCE_LOG_MEL, compute_features  # noqa: E402
from asr.nn.model import AcousticModel, EncoderConfig  # noqa: E402
from asr.nn.rounding import rounded, rounded_layers  # noqa: E402
from asr.train.augment import add_noise, augment, change_tempo, narrow, warp  # noqa: E402
from asr.train.batches import BatchPlan  # noqa: E402
from asr.train.checkpoint import CheckpointError, average, last_checkpoint, open_checkpoint, save_checkpoint  # noqa: E402
from asr.train.crf import PhoneTrigram  # noqa: E402
from asr.train.manifest import Clip, ManifestError, read_manifest  # noqa: E402
from asr.train.mwer import Heard, mwer_loss  # noqa: E402
from asr.train.recipe import AugmentConfig, OptimConfig, Recipe, RecipeError, read_recipe  # noqa: E402
from asr.train.store import FeatureStore, StoreError, StoreWriter, write_index  # noqa: E402
from asr.train.trainer import Trainer, compute_losses, finish_run, learning_rate_scale  # noqa: E402

V = 6
CONFIG = EncoderConfig(
    d_model=16, n_heads=2, n_layers=1, d_ff=24, kernel=3, left_context=16, look_ahead=2, vocab_size=V
)


@pytest.fixture
def store(tmp_path):
    """Twelve clips of one second; phoneme k lifts a band of mel bins. The last clip has no transcript."""
    rng = np.random.default_rng(0)
    writer = StoreWriter(tmp_path / "store", "clean", with_teacher=True)
    clips, targets = [], {}
    for number in range(12):
        phonemes = rng.integers(2, V, 4)
        features = rng.normal(-8, 0.5, (100, 80)).astype(np.float32)
        teacher = np.full((50, V), np.log(0.01), np.float32)
        teacher[:, 0] = np.log(0.95)
        for place, phoneme in enumerate(phonemes):
            start = 10 + 20 * place
            features[start : start + 10, 10 * phoneme : 10 * phoneme + 10] += 6
            teacher[start // 2 + 2] = np.log(0.01)
            teacher[start // 2 + 2, phoneme] = np.log(0.95)
        writer.add(features, teacher)
        clips.append(Clip(f"{number}.wav", "x" if number < 11 else None, 1.0, "toy", "train"))
        if number < 11:
            targets[f"{number}.wav"] = phonemes.tolist()
    writer.close()
    write_index(tmp_path / "store", clips, {"clean": writer.spans})
    return FeatureStore.open(tmp_path / "store", n_phonemes=V), targets


def make_recipe(**changes):
    values = {"batch_s": 4.0, "chunks": (8, 0), "chunk_weights": (1.0, 1.0), "average_last": 2} | changes
    return Recipe(optim=OptimConfig(learning_rate=3e-3, warmup_steps=3, steps=12), **values)


def new_model():
    torch.manual_seed(1)
    return AcousticModel(CONFIG)


def train(run, store, recipe, stop_after=None):
    data, targets = store
    run.mkdir(exist_ok=True)
    trainer = Trainer(run, new_model(), recipe, lambda model: {"dev_x": 1.0})
    losses = []

    class StopError(Exception):
        pass

    def on_step(step, figures):
        losses.append(figures["ctc"] + figures["distill"])
        if step == stop_after:
            trainer.save()
            raise StopError

    with contextlib.suppress(StopError):
        trainer.fit(BatchPlan(data, targets, recipe, []), on_step=on_step)
    return trainer, losses


def test_losses_fall(tmp_path, store):
    _, losses = train(tmp_path / "run", store, make_recipe())
    assert np.mean(losses[-3:]) < 0.7 * np.mean(losses[:3])


def test_crf_losses_fall(tmp_path, store):
    data, targets = store
    recipe = make_recipe(ctc_weight=0.1, crf_weight=1.0, distill_weight=0.0)
    with pytest.raises(ValueError, match="needs a phoneme trigram"):
        Trainer(tmp_path, new_model(), recipe, lambda model: {})
    trainer = Trainer(tmp_path, new_model(), recipe, lambda model: {}, PhoneTrigram.estimate(targets.values(), V))
    losses = []
    trainer.fit(BatchPlan(data, targets, recipe, []), on_step=lambda step, figures: losses.append(figures["crf"]))
    assert min(losses) > 0
    assert np.mean(losses[-3:]) < 0.7 * np.mean(losses[:3])


def test_a_network_in_few_bits_imitates_what_it_was(tmp_path, store):
    data, targets = store
    trained, _ = train(tmp_path / "whole", store, make_recipe())
    recipe = make_recipe(ctc_weight=0.0, distill_weight=0.0, imitate_weight=1.0, weight_bits=2)
    with pytest.raises(ValueError, match="needs a network that is imitated"):
        Trainer(tmp_path, new_model(), recipe, lambda model: {})
    start = copy.deepcopy(trained.model)
    validated = []
    trainer = Trainer(tmp_path / "bits", start, recipe, lambda m: validated.append(m) or {}, imitated=trained.model)
    (tmp_path / "bits").mkdir()
    losses = []
    plan = BatchPlan(data, {}, recipe, [])  # no transcript is needed
    trainer.fit(plan, on_step=lambda step, figures: losses.append(figures["imitate"]))
    assert 0 < np.mean(losses[-3:]) < 0.7 * np.mean(losses[:3])
    final = finish_run(tmp_path / "bits", 1, recipe.weight_bits).model()
    for name in rounded_layers(final):
        weights = final.state_dict()[name]
        assert torch.equal(rounded(weights, 2), weights)
        assert torch.equal(validated[-1].state_dict()[name], weights)  # what is measured is what is written
        assert not torch.equal(trainer.model.state_dict()[name], weights)


def test_imitating_oneself_costs_nothing(tmp_path, store):
    data, _ = store
    recipe = make_recipe(ctc_weight=0.0, distill_weight=0.0, imitate_weight=1.0)
    trainer = Trainer(tmp_path, new_model(), recipe, lambda model: {}, imitated=new_model())
    losses = []
    trainer.fit(BatchPlan(data, {}, recipe, []), on_step=lambda step, figures: losses.append(figures["imitate"]))
    assert abs(losses[0]) < 1e-6


def test_resumed_run_ends_with_the_same_weights(tmp_path, store):
    whole, _ = train(tmp_path / "whole", store, make_recipe())
    train(tmp_path / "cut", store, make_recipe(), stop_after=5)
    resumed, _ = train(tmp_path / "cut", store, make_recipe())
    assert resumed.step == whole.step == 12
    for key, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[key]), key


def test_at_first_only_the_head_learns(tmp_path, store):
    recipe = make_recipe()
    recipe = replace(recipe, optim=replace(recipe.optim, head_steps=4, head_learning_rate=1e-2))
    assert [round(learning_rate_scale(step, recipe), 3) for step in (0, 2, 3, 4, 6)] == [0.333, 1, 1, 0.333, 1]
    before = new_model().state_dict()
    train(tmp_path / "cut", store, recipe, stop_after=4)
    after = last_checkpoint(tmp_path / "cut").model().state_dict()
    assert {key.split(".")[0] for key in before if not torch.equal(before[key], after[key])} == {"head"}
    whole, _ = train(tmp_path / "whole", store, recipe)
    resumed, _ = train(tmp_path / "cut", store, recipe)
    for key, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[key]), key
    assert not torch.equal(
        whole.model.state_dict()["blocks.0.first.expand.weight"], before["blocks.0.first.expand.weight"]
    )


def test_clips_start_anywhere_in_a_stream(store):
    data, targets = store
    starts = [BatchPlan(data, targets, make_recipe(seed=seed), []).batch(0).start for seed in range(20)]
    assert 0 < starts.count(0) < 15
    assert len(set(starts)) > 5
    assert max(starts) < 1500
    always = make_recipe(start_at_zero=1.0)
    assert {BatchPlan(data, targets, always, []).batch(step).start for step in range(9)} == {0}


def test_half_written_checkpoint_is_ignored(tmp_path):
    model = new_model()
    save_checkpoint(tmp_path, 3, model, torch.optim.AdamW(model.parameters()), keep=2)
    (tmp_path / ".step-000009.part").mkdir()
    assert last_checkpoint(tmp_path).step == 3
    (tmp_path / "step-000003" / "model.pt").write_bytes(b"cut")
    with pytest.raises(Exception, match=r"usable|PytorchStreamReader|pickle|Invalid"):
        last_checkpoint(tmp_path).model()


def test_old_checkpoints_go_and_the_average_is_the_mean(tmp_path):
    model = new_model()
    optimizer = torch.optim.AdamW(model.parameters())
    for step in (1, 2, 3):
        with torch.no_grad():
            model.head.bias.fill_(step)
        save_checkpoint(tmp_path, step, model, optimizer, keep=2)
    assert sorted(path.name for path in tmp_path.glob("step-*")) == ["step-000002", "step-000003"]
    final = finish_run(tmp_path, 2).model()
    assert torch.allclose(final.head.bias, torch.full((V,), 2.5))
    pair = [open_checkpoint(tmp_path / name) for name in ("step-000002", "step-000003")]
    assert torch.allclose(average(pair, [0.25, 0.75]).head.bias, torch.full((V,), 2.75))
    with pytest.raises(CheckpointError, match="no checkpoint"):
        average([])
    with pytest.raises(CheckpointError, match="neither"):
        open_checkpoint(tmp_path / "nowhere")


def test_batches_depend_on_seed_and_step_alone(store):
    data, targets = store
    plans = [BatchPlan(data, targets, make_recipe(seed=seed), []) for seed in (1, 1, 2)]
    batches = [plan.batch(7) for plan in plans]
    assert torch.equal(batches[0].features, batches[1].features)
    assert torch.equal(batches[0].targets, batches[1].targets)
    assert batches[0].features.shape != batches[2].features.shape or not torch.equal(
        batches[0].features, batches[2].features
    )


def test_every_clip_comes_once_an_epoch(store):
    data, targets = store
    plan = BatchPlan(data, targets, make_recipe(), [])
    assert sorted(clip for step in plan._steps(0) for clip in step) == list(range(12))
    assert sum(len(plan.batch(step).lens) for step in range(plan.steps_per_epoch)) == 12


def test_epochs_without_a_clip_are_passed_over(store):
    data, targets = store
    plan = BatchPlan(data, targets, make_recipe(repeats={"toy": 0.05}), [])
    assert any(not plan._steps(epoch) for epoch in range(10))
    assert all(len(plan.batch(step).lens) for step in range(4))
    with pytest.raises(ValueError, match="ever visited"):
        BatchPlan(data, targets, make_recipe(repeats={"toy": 0.0}), [])


def test_clips_without_transcript_serve_distillation_only(store):
    data, targets = store
    plan = BatchPlan(data, targets, make_recipe(distill_weight=0.0), [])
    assert sum(len(plan.batch(step).lens) for step in range(plan.steps_per_epoch)) == 11
    with pytest.raises(ValueError, match="no clip"):
        BatchPlan(data, {}, make_recipe(distill_weight=0.0), [])


def test_noise_with_nothing_said_joins_the_clips(store):
    data, targets = store
    noise = np.random.default_rng(1).normal(-5, 1, (250, 80)).astype(np.float32)
    plan = BatchPlan(data, targets, make_recipe(noise_share=0.9, distill_weight=0.0), [noise])
    batches = [plan.batch(step) for step in range(6)]
    speech = sum(int((batch.target_lens > 0).sum()) for batch in batches)
    silent = sum(int((batch.transcribed & (batch.target_lens == 0)).sum()) for batch in batches)
    assert all(bool(batch.transcribed.all()) for batch in batches)
    assert 0.4 * speech < silent < speech
    for batch in batches:
        assert int(batch.lens.max()) <= 50  # no longer than the speech of the step
    with pytest.raises(ValueError, match="noise_share needs noise recordings"):
        BatchPlan(data, targets, make_recipe(noise_share=0.1), [])
    with pytest.raises(RecipeError, match="noise_share is 1"):
        make_recipe(noise_share=1)


def test_the_network_learns_to_keep_silent_in_noise(tmp_path, store):
    data, targets = store
    noise = np.random.default_rng(1).normal(-2, 1, (250, 80)).astype(np.float32)
    recipe = make_recipe(noise_share=0.5, distill_weight=0.0, crf_weight=1.0)
    trigram = PhoneTrigram.estimate(targets.values(), V)
    model = new_model()
    with torch.no_grad():
        model.head.bias[3] = 4.0  # hears one phoneme everywhere

    def blank(model):
        with torch.inference_mode():
            return float(model.eval()(torch.from_numpy(noise)[None])[0, :, 0].exp().mean())

    before = blank(model)
    (tmp_path / "run").mkdir()
    trainer = Trainer(tmp_path / "run", model, recipe, lambda model: {}, trigram)
    trainer.fit(BatchPlan(data, targets, recipe, [noise]), on_step=lambda step, figures: None)
    assert blank(trainer.model) > before + 0.1


def test_noise_has_the_asked_level():
    rng = np.random.default_rng(0)
    speech, noise = np.zeros((50, 80), np.float32), rng.normal(-3, 0.1, (30, 80)).astype(np.float32)
    mixed = add_noise(speech, noise, 0.0, rng)
    assert np.mean(np.exp(mixed)) == pytest.approx(2.0, rel=0.02)  # as much noise as speech: twice the power
    assert np.allclose(add_noise(speech, noise, 100.0, rng), speech, atol=1e-3)


def test_random_phases_spread_mixed_features_as_mixing_waveforms_does():
    rng = np.random.default_rng(0)
    first, second = rng.normal(0, 0.1, (2, 10 * 16_000)).astype(np.float32)
    features, noise = compute_features(first), compute_features(second)
    truth = compute_features(first + second) - np.logaddexp(features, noise)
    with_phases, without = (
        add_noise(features, noise, 0.0, np.random.default_rng(5), phases=phases) for phases in (True, False)
    )
    drawn = with_phases - without
    for low, high in ((0, 20), (20, 50), (50, 80)):
        assert drawn[:, low:high].std() == pytest.approx(truth[:, low:high].std(), rel=0.25)
    assert abs(drawn.mean() - truth.mean()) < 0.05


def test_filters_are_smooth_bounded_and_different_for_speech_and_noise():
    config = AugmentConfig(
        filter_db=6.0,
        noise_probability=1.0,
        noise_pairs=1.0,
        noise_snr_db=(0.0, 0.0),
        time_masks=0,
        frequency_masks=0,
    )
    features = np.zeros((50, 80), np.float32)
    out = augment(features, [features[:7], features[:9]], config, np.random.default_rng(3))
    gain = out.mean(0) - out.mean()
    assert 0.1 < np.abs(gain).max() <= 4 * 6 * np.log(10) / 10
    assert np.abs(np.diff(gain)).max() < 0.3
    assert not np.allclose(out, augment(features, [], config, np.random.default_rng(3)), atol=1e-3)


def test_augmenting_leaves_its_input_alone():
    features = np.random.default_rng(0).normal(size=(100, 80)).astype(np.float32)
    before = features.copy()
    out = augment(features, [], AugmentConfig(), np.random.default_rng(1))
    assert np.array_equal(features, before)
    assert not np.array_equal(out, before)


def test_learning_rate_rises_then_falls():
    recipe = make_recipe()
    scales = [learning_rate_scale(step, recipe) for step in range(12)]
    assert scales[0] < scales[1] < scales[2] == 1.0
    assert all(a > b for a, b in zip(scales[3:], scales[4:], strict=False))


@pytest.mark.parametrize(
    ("text", "message"),
    [("sed = 1", "unknown key 'sed'"), ("seed = 'x'", "expected int"), ("[optim]\nlr = 1", "unknown key 'lr'"),
     ("chunks = [1]", "chunk_weights"), ("seed = ", "recipe.toml"), ("ctc_weight = -1", "negative")],
)  # fmt: skip
def test_wrong_recipe(tmp_path, text, message):
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=message):
        read_recipe(path)


def test_recipe_is_read(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text("batch_s = 30\nchunks = [8]\nchunk_weights = [1]\n[repeats]\ntoy = 2\n[optim]\nsteps = 5\n")
    recipe = read_recipe(path)
    assert (recipe.batch_s, recipe.chunks, recipe.repeats, recipe.optim.steps) == (30.0, (8,), {"toy": 2.0}, 5)


@pytest.mark.parametrize("line", ["{", '{"audio": "a"}', '{"audio": 1, "text": "x", "seconds": 1}', "[]"])
def test_wrong_manifest(tmp_path, line):
    path = tmp_path / "manifest.jsonl"
    path.write_text('{"audio": "a", "text": null, "seconds": 1}\n' + line + "\n")
    with pytest.raises(ManifestError, match="manifest.jsonl:2"):
        read_manifest(path)


def test_store_says_what_is_missing(tmp_path, store):
    with pytest.raises(StoreError, match="asr-train prepare"):
        FeatureStore.open(tmp_path / "nothing", n_phonemes=V)
    (tmp_path / "store" / "clean.f16").unlink()
    with pytest.raises(StoreError, match="clean.f16"):
        FeatureStore.open(tmp_path / "store", n_phonemes=V)


def test_log_can_be_drawn(tmp_path, store):
    pytest.importorskip("matplotlib")
    from asr.train.curves import draw_curves

    train(tmp_path / "run", store, make_recipe())
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert rows[-1]["dev_x"] == 1.0
    draw_curves(tmp_path / "run", tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 5000


def test_tempo_keeps_what_is_said_and_changes_how_long_it_takes():
    features = np.repeat(np.arange(100, dtype=np.float32)[:, None], 80, 1)
    for tempo in (0.8, 1.0, 1.25):
        assert len(change_tempo(np.zeros((70, 80), np.float32), 1.15)) in (60, 61)
        out = change_tempo(features, tempo)
        assert abs(len(out) - len(features) / tempo) <= 2
        assert out[:, 0] == pytest.approx(tempo * np.arange(len(out)), abs=1e-4)


@pytest.mark.parametrize("factor", [0.85, 1.2])
def test_warping_moves_a_tone_to_the_frequency_that_the_factor_says(factor):
    seconds = np.arange(16_000) / 16_000
    tones = {
        hz: compute_features(np.sin(2 * np.pi * hz * seconds).astype(np.float32))[20:30] for hz in (900, 900 * factor)
    }
    peak = warp(tones[900], factor).mean(0).argmax()
    assert abs(int(peak) - int(tones[900 * factor].mean(0).argmax())) <= 1


def test_a_narrow_channel_leaves_what_is_inside_and_removes_what_is_outside():
    features = np.full((3, 80), -2.0, np.float32)
    out = narrow(features, 300, 3400)
    inside = (MEL_HZ > 300) & (MEL_HZ < 3400)
    outside = (MEL_HZ < 200) | (MEL_HZ > 5000)
    assert np.array_equal(out[:, inside], features[:, inside])
    assert out[:, outside].max() < -2 - 59 * np.log(10) / 10
    assert out.min() >= SILENCE_LOG_MEL


def test_copies_of_a_clip_differ_and_keep_its_frames(store):
    data, targets = store
    recipe = make_recipe(distill_weight=0.0, consistency_weight=0.5)
    recipe = replace(recipe, augment=AugmentConfig(tempo=(0.7, 0.9), warp=(0.9, 1.1)))
    batch = BatchPlan(data, targets, recipe, []).batch(0)
    n = batch.n_pairs
    assert n > 0
    assert len(batch.features) == 2 * n
    assert torch.equal(batch.lens[:n], batch.lens[n:])
    assert batch.lens.min() > 50  # slower than the second that the clips last
    assert torch.equal(batch.targets[: len(batch.targets) // 2], batch.targets[len(batch.targets) // 2 :])
    assert not torch.equal(batch.features[:n], batch.features[n:])


def test_consistency_is_the_divergence_of_both_copies_each_from_the_other(store):
    data, targets = store
    recipe = make_recipe(ctc_weight=0.1, distill_weight=0.0, consistency_weight=0.5, noise_share=0.4)
    batch = BatchPlan(data, targets, recipe, [np.zeros((40, 80), np.float32)]).batch(1)
    log_probs = torch.randn(len(batch.features), batch.features.shape[1] // 2, V).log_softmax(-1).requires_grad_()
    found = compute_losses(log_probs, batch, recipe)
    n = batch.n_pairs
    assert 0 < 2 * n < len(log_probs)  # some rows are noise, and have no copy
    expected, frames = 0.0, 0
    for first, second in [(i, n + i) for i in range(n)] + [(n + i, i) for i in range(n)]:
        for t in range(int(batch.lens[first])):
            teacher, student = log_probs[second, t].detach(), log_probs[first, t].detach()
            expected += float((teacher.exp() * (teacher - student)).sum())
            frames += 1
    assert found.consistency == pytest.approx(expected / frames, rel=1e-4)
    found.total.backward()
    assert log_probs.grad[: 2 * n].abs().sum() > 0


def test_agreeing_copies_cost_nothing(store):
    data, targets = store
    recipe = make_recipe(distill_weight=0.0, consistency_weight=1.0)
    batch = BatchPlan(data, targets, recipe, []).batch(0)
    log_probs = torch.randn(batch.n_pairs, batch.features.shape[1] // 2, V).log_softmax(-1).repeat(2, 1, 1)
    assert compute_losses(log_probs, batch, recipe).consistency == pytest.approx(0, abs=1e-6)


def test_copies_of_a_clip_are_of_one_speed(tmp_path, store):
    data, targets = store
    n_frames = {"clean": 100, "fast": 90}
    for view, length in n_frames.items():
        (tmp_path / f"{view}.f16").write_bytes(np.zeros((12 * length, 80), np.float16).tobytes())
    spans = {view: [(length * i, length) for i in range(12)] for view, length in n_frames.items()}
    write_index(tmp_path, [stored.clip for stored in data.clips], spans)
    both = FeatureStore.open(tmp_path, n_phonemes=V)
    recipe = make_recipe(distill_weight=0.0, consistency_weight=0.5, views=("clean", "fast"))
    plan = BatchPlan(both, targets, recipe, [])
    lens = [batch.lens.reshape(2, -1) for batch in map(plan.batch, range(8))]
    assert all(torch.equal(first, second) for first, second in lens)
    assert {int(value) for pair in lens for value in pair.flatten()} == {50, 45}


def test_steps_of_which_no_text_is_known_are_not_heard(store):
    data, targets = store
    batch = BatchPlan(data, targets, make_recipe(distill_weight=0.0), []).batch(0)
    unknown = replace(batch, texts=[None] * len(batch.texts))
    log_probs = torch.randn(len(batch.features), batch.features.shape[1] // 2, V).log_softmax(-1)
    losses = compute_losses(log_probs, unknown, make_recipe(distill_weight=0.0, mwer_weight=1.0))
    assert math.isfinite(float(losses.total))
    assert losses.wrong_words == 0


def test_what_the_search_hears_is_part_of_the_loss(store):
    class Ear:
        def hear(self, log_probs, texts):
            assert [len(rows) for rows in log_probs] == batch.lens.tolist()
            return [[Heard((2, 3), 4, 0.0), Heard((4,), 1, 0.0)] for _ in texts]

    data, targets = store
    recipe = make_recipe(distill_weight=0.0, mwer_weight=2.0)
    batch = BatchPlan(data, targets, make_recipe(distill_weight=0.0), []).batch(0)
    log_probs = torch.randn(len(batch.features), batch.features.shape[1] // 2, V).log_softmax(-1).requires_grad_()
    losses = compute_losses(log_probs, batch, recipe, listener=Ear())
    assert losses.wrong_words == pytest.approx(2.5 * len(batch.lens) / (float(batch.lens.sum()) / 50))
    alone = compute_losses(log_probs, batch, make_recipe(distill_weight=0.0))
    ways = [[Heard((2, 3), 4, 0.0), Heard((4,), 1, 0.0)]] * len(batch.lens)
    expected = 2.0 * mwer_loss(log_probs, batch.lens, ways) / batch.lens.sum()
    assert (losses.total - alone.total).item() == pytest.approx(expected.item(), abs=1e-6)


def test_a_resumed_run_takes_the_rates_of_its_recipe(tmp_path, store):
    recipe = make_recipe()
    train(tmp_path / "run", store, recipe, stop_after=4)
    slower = replace(recipe, optim=replace(recipe.optim, learning_rate=1e-5, weight_decay=0.5))
    trainer = Trainer(tmp_path / "run", new_model(), slower, lambda model: {})
    assert {group["full_rate"] for group in trainer._optimizer.param_groups} == {1e-5}
    assert max(group["weight_decay"] for group in trainer._optimizer.param_groups) == 0.5


@pytest.mark.parametrize(
    "changes",
    [
        {"chunks": (), "chunk_weights": ()},
        {"mwer_weight": 1.0, "mwer_scale": -1.0},
        {"distill_weight": 1.0, "augment": AugmentConfig(tempo=(0.9, 1.1))},
    ],
)
def test_recipes_that_cannot_work_are_refused(changes):
    with pytest.raises(RecipeError):
        make_recipe(**changes)


@pytest.mark.parametrize("changes", [{"tempo": (0.0, 1.0)}, {"warp": (1.2, 0.9)}])
def test_ranges_that_cannot_be_are_refused(changes):
    with pytest.raises(RecipeError, match=r"augment\."):
        AugmentConfig(**changes)
