from pathlib import Path

from lossbench.execution.events import EventReader, EventWriter, last_events


def test_reader_sees_each_event_once(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    writer, reader = EventWriter(path), EventReader(path)
    assert list(reader.new()) == []
    writer.send("start", step=0)
    writer.send("step", step=1, loss=2.5)
    assert [e["event"] for e in reader.new()] == ["start", "step"]
    assert list(reader.new()) == []
    writer.send("done")
    assert [e["event"] for e in reader.new()] == ["done"]


def test_half_a_line_waits_and_a_broken_line_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    reader = EventReader(path)
    path.write_text('{"event": "a"}\n{"eve')
    assert [e["event"] for e in reader.new()] == ["a"]
    with path.open("a") as file:
        file.write('nt": "b"}\n{"cut by a cra\n[1]\n{"event": "c"}\n')
    assert [e["event"] for e in reader.new()] == ["b", "c"]


def test_throttle(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    writer = EventWriter(path, interval=60)
    for step in range(10):
        writer.send("step", throttle=True, step=step)
    writer.send("done")
    assert [e["event"] for e in EventReader(path).new()] == ["step", "done"]


def test_last_events_reads_only_the_end(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    assert last_events(path) == []
    writer = EventWriter(path)
    for step in range(500):
        writer.send("step", step=step)
    steps = [event["step"] for event in last_events(path, tail=300)]
    assert steps == list(range(499, 499 - len(steps), -1))
    assert 1 < len(steps) < 10
    assert last_events(tmp_path) == []  # a folder
