"""Scenes: parsing them, and performing them frame by frame."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from deploy.client.performance import FRAME, Performer, cough, gather_sounds, levelled, read_sound
from deploy.client.scene import BadScene, Cue, Scene, load_scenes, parse_scene
from shared.protocol.session import RATE_HZ

SCRIPT = """
about  Two words.            # a remark
noise  pink 20
at     0.5  say "hello, you"
pause  0.9  say clip-1
reply  1.2  cough
reply  2.0  murmur "uh-huh"
after  1.0  say "and now"
"""


def test_a_scene_is_parsed() -> None:
    scene = parse_scene(SCRIPT, "two")
    assert (scene.name, scene.about, scene.noise, scene.noise_db) == ("two", "Two words.", "pink", 20)
    assert scene.cues == (
        Cue("at", 0.5, "say", "hello, you", spoken=True),
        Cue("pause", 0.9, "say", "clip-1"),
        Cue("reply", 1.2, "cough"),
        Cue("reply", 2.0, "murmur", "uh-huh", spoken=True),
        Cue("after", 1.0, "say", "and now", spoken=True),
    )
    assert [cue.new_turn for cue in scene.cues] == [True, False, False, False, True]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "nothing to play"),
        ("# only a remark", "nothing to play"),
        ("whenever 1 say x", "line 1"),
        ("at 1 say", "line 1"),
        ("at soon say x", "line 1"),
        ("at -1 say x", "line 1"),
        ("at nan say x", "line 1"),
        ("at 1 sing x", "line 1"),
        ("at 1 cough loudly", "line 1"),
        ('at 1 say "x', "line 1"),
        ("\nnoise brown 20", "line 2"),
        ("noise pink", "line 1"),
        ("pause 1 say x", "line 1"),
    ],
)
def test_the_error_of_a_bad_scene_names_scene_and_line(text: str, line: str) -> None:
    with pytest.raises(BadScene, match=line) as raised:
        parse_scene(text, "wrong")
    assert "wrong" in str(raised.value)


def test_scenes_of_a_folder(tmp_path: Path) -> None:
    with pytest.raises(BadScene, match=r"no \.scene"):
        load_scenes(tmp_path)
    (tmp_path / "b.scene").write_text("at 1 cough")
    (tmp_path / "a.scene").write_text("at 2 cough")
    assert [scene.name for scene in load_scenes(tmp_path)] == ["a", "b"]
    (tmp_path / "c.scene").write_bytes(b"\xff\xfe")
    with pytest.raises(BadScene):
        load_scenes(tmp_path)


def test_every_scene_of_the_benchmark_can_be_played() -> None:
    scenes = load_scenes(Path(__file__).parents[3] / "benchmarks" / "scenes")
    assert len(scenes) >= 8
    assert all(scene.about for scene in scenes)


def test_a_missing_recording_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadScene, match="nowhere"):
        gather_sounds([parse_scene("at 0 say nowhere", "s")], tmp_path)


def perform(scene: Scene, replies: dict[float, float]) -> tuple[Performer, np.ndarray]:
    """Perform a scene. `replies`: start and end of each reply, in seconds."""
    sounds = {cue: levelled(np.ones(RATE_HZ, np.float32)) for cue in scene.cues}
    performer = Performer(scene, sounds)
    frames = []
    while not performer.over:
        for start_s, end_s in replies.items():
            if start_s <= performer.now_s < end_s:
                performer.reply_began()
            elif performer.now_s >= end_s and performer.replying:
                performer.reply_over()
        frames.append(performer.frame())
        assert performer.now_s < 60
    return performer, np.frombuffer(b"".join(frames), "<i2")


def test_cues_begin_at_their_times() -> None:
    script = 'at 0.5 say "a"\npause 0.4 say "b"\nreply 1 cough\nafter 0.5 say "c"'
    performer, samples = perform(parse_scene(script, "s"), {3.5: 6.0})
    starts = [round(sound.start_s, 1) for sound in performer.done]
    assert starts == [0.5, 1.9, 4.5, 6.5]
    assert [sound.into_reply for sound in performer.done] == [False, False, True, False]
    loud = np.abs(samples.astype(int)) > 500
    assert not loud[: int(0.5 * RATE_HZ) - FRAME].any()
    assert loud[int(0.6 * RATE_HZ)]
    assert not loud[int(1.6 * RATE_HZ)]


def test_a_cue_for_a_reply_that_does_not_come_is_skipped() -> None:
    performer, _ = perform(parse_scene('at 0.5 say "a"\nreply 1 cough\nafter 0 say "b"', "s"), {})
    assert [sound.cue.what for sound in performer.done] == ["say", "say"]
    assert [cue.what for cue in performer.skipped] == ["cough"]


def test_sounds_overlap_and_all_performances_are_equal() -> None:
    scene = parse_scene('noise white 20\nat 0.5 say "a"\nat 1.0 cough', "s")
    first, second = perform(scene, {})[1], perform(scene, {})[1]
    assert np.array_equal(first, second)
    both, alone = first[int(1.2 * RATE_HZ)], first[int(0.7 * RATE_HZ)]
    assert both > 1.5 * alone


def test_a_cough_is_short_and_as_loud_as_speech() -> None:
    samples = cough()
    assert 0.1 < len(samples) / RATE_HZ <= 0.25
    assert np.sqrt(np.mean(samples**2)) == pytest.approx(10 ** (-26 / 20), rel=0.05)


def test_a_stereo_file_whose_channels_cancel_is_heard(tmp_path: Path) -> None:
    left = np.sin(np.arange(RATE_HZ) / 10).astype(np.float32) / 2
    soundfile.write(tmp_path / "talk.wav", np.stack([left, -left], axis=1), RATE_HZ)
    assert np.allclose(np.abs(read_sound(tmp_path / "talk.wav")), np.abs(left), atol=0.001)


def test_a_room_and_a_telephone_change_how_a_scene_sounds_but_not_when(tmp_path: Path) -> None:
    script = 'at 0.5 say "a"\npause 0.2 say "b"'
    plain, times = perform(parse_scene(script, "s"), {})[0], []
    for acoustics in ("room", "telephone"):
        performer, samples = perform(parse_scene(f"acoustics {acoustics}\n{script}", "s"), {})
        times.append([(sound.start_s, sound.end_s) for sound in performer.done])
        assert np.abs(samples).max() > 0
    assert times == [[(sound.start_s, sound.end_s) for sound in plain.done]] * 2
    with pytest.raises(BadScene, match="acoustics needs one of room, telephone"):
        parse_scene("acoustics cave\nat 0 cough", "s")
