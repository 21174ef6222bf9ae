"""When an agent reports, and what."""

import time
from pathlib import Path

import pytest
from soup_cdn_agent.reporter import EARLY, INTERVAL

from tests import agents
from tests.agents import Agent
from tests.cdn_agent.recorder import Recorder, recording
from tests.databases import free_port
from tests.wire import until

MIRROR = {"id": 7, "token": "secret"}
NOWHERE = "http://127.0.0.1:9"  # no web server: nobody listens there


def start(started: list[Agent], tmp_path: Path, core: str, **settings: object) -> Agent:
    agent = agents.start(tmp_path / "agent", core, MIRROR, tmp_path / "blobs", NOWHERE, **settings)
    started.append(agent)
    return agent


@pytest.mark.row("S18")
def test_it_reports_as_often_as_it_is_asked_to(core: Recorder, started: list[Agent], tmp_path: Path) -> None:
    """
    Every interval, up to a tenth early, so that agents which start together drift apart; 30 s unless asked.
    """
    assert 30 == INTERVAL
    start(started, tmp_path, core.url)
    until(lambda: len(core.reports) >= 9, 30)

    steady = core.gaps()[2:]  # the first ones say that it has looked through its folder
    print([round(gap, 2) for gap in steady])  # noqa: T201 - what was measured
    assert all(1 - EARLY - 0.05 < gap < 1.5 for gap in steady)
    assert len({round(gap, 3) for gap in steady}) > 1


@pytest.mark.timeout(260)
@pytest.mark.row("S18")
def test_three_minutes_have_six_reports(
    started: list[Agent], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """
    Left to itself it reports 5 to 7 times in three minutes; at a tenth of the interval, in a tenth of them.
    """
    scale = 1.0 if request.config.getoption("--long") else 0.1
    with recording(interval=30 * scale) as core:
        start(started, tmp_path, core.url, **({} if scale == 1 else {"interval": 30 * scale}))
        until(lambda: core.reports and not core.last["message"].startswith("looking"), 20)
        begun = len(core.reports)
        time.sleep(180 * scale)

        assert 5 <= len(core.reports) - begun <= 7


@pytest.mark.row("S33")
def test_a_mirror_of_a_core_without_blobs_says_at_once_that_it_has_them_all(
    started: list[Agent], tmp_path: Path
) -> None:
    """
    Its list was read: that is told with the feed's epoch, and not only when the next report is due.
    """
    with recording(interval=30) as core:
        start(started, tmp_path, core.url)
        until(lambda: core.reports and core.last["epoch"] == "e", 10)


@pytest.mark.row("S13", "C47")
def test_a_mirror_whose_web_server_is_not_there_says_so(
    core: Recorder, started: list[Agent], tmp_path: Path
) -> None:
    """
    What it says is 1 to 3 and has a reason; status 0 is never sent, not even as the last word.
    """
    agent = start(started, tmp_path, core.url)
    until(lambda: len(core.reports) >= 4, 20)
    agent.stop()

    assert {2, 3} >= {report["status"] for _, report in core.reports}
    assert all(report["message"] for _, report in core.reports)


def test_who_is_told_to_stop_says_that_it_leaves(
    core: Recorder, started: list[Agent], tmp_path: Path
) -> None:
    """
    One last report, and the process ends well within the time that anybody waits.
    """
    agent = start(started, tmp_path, core.url)
    until(lambda: core.reports, 20)
    assert core.last["leaving"] is False

    began = time.monotonic()
    assert 0 == agent.stop()

    assert core.last["leaving"] is True
    assert time.monotonic() - began < 5


def test_a_core_that_is_down_does_not_keep_it_from_stopping(started: list[Agent], tmp_path: Path) -> None:
    """
    The farewell is tried once, for a few seconds.
    """
    agent = start(started, tmp_path, f"http://127.0.0.1:{free_port()}")
    until(agent.status, 20)

    began = time.monotonic()
    assert 0 == agent.stop()

    assert time.monotonic() - began < 8


def test_what_fails_is_said_again_within_five_seconds(
    core: Recorder, started: list[Agent], tmp_path: Path
) -> None:
    """
    Three times 503: tries begin close together and are never more than 5 s apart; then it goes on as before.
    """
    core.interval, core.head = 20.0, 1
    start(started, tmp_path, core.url, interval=20)
    until(lambda: core.reports and core.last["message"] == "no blob is here yet", 20)
    core.answers = [503] * 3
    sent = len(core.reports)

    # A report that is due now: the agent's status changes when its folder does.
    blocked = tmp_path / "blobs" / ".soup-cdn" / "incoming"
    blocked.rmdir()
    blocked.write_text("in the way")
    until(lambda: len(core.reports) >= sent + 4, 40)

    gaps = core.gaps()[sent : sent + 3]
    print([round(gap, 2) for gap in gaps])  # noqa: T201 - what was measured
    assert gaps[0] < 1.5
    assert all(gap < 5.5 for gap in gaps)
    assert "cannot be written" in core.last["message"]
    assert 3 == core.last["status"]


def test_a_core_that_comes_back_is_told_at_once(started: list[Agent], tmp_path: Path) -> None:
    """
    However long it was away, it is tried every few seconds.
    """
    port = free_port()
    agent = start(started, tmp_path, f"http://127.0.0.1:{port}")
    until(lambda: agent.status() and agent.metric("reports_failed_total") >= 3, 30)

    with recording(port) as core:
        back = until(lambda: core.reports, 20)

    print(f"heard after {back:.1f} s")  # noqa: T201 - what was measured
    assert back < 6


def test_another_core_is_asked_when_one_does_not_answer(
    core: Recorder, started: list[Agent], tmp_path: Path
) -> None:
    """
    Of two cores the one that answers hears of the mirror.
    """
    start(started, tmp_path, f"http://127.0.0.1:{free_port()} {core.url}")

    until(lambda: core.reports, 20)


def test_a_refusal_is_said_and_tried_again(core: Recorder, started: list[Agent], tmp_path: Path) -> None:
    """
    A token that was thrown out is no reason to end: the status says what the core said.
    """
    core.answers = [401] * 100
    agent = start(started, tmp_path, core.url)

    until(lambda: (agent.status() or {}).get("refused"), 20)

    assert "401: as the test wants" in agent.status()["refused"]
    assert 1 == agents.said(agent)[0]
    assert "refused:" in agents.said(agent)[1]


@pytest.mark.row("S19")
def test_a_core_that_takes_eight_seconds_is_waited_for(
    core: Recorder, started: list[Agent], tmp_path: Path
) -> None:
    """
    A slow answer is one all the same, and makes no second report.
    """
    core.delay, core.interval = 8.0, 20.0
    agent = start(started, tmp_path, core.url, interval=20)

    until(lambda: agent.status() and agent.metric("reports_total") >= 1, 30)

    assert 1 == len(core.reports)
    assert 0 == agent.metric("reports_failed_total")


def test_the_feed_is_read_only_when_its_head_has_moved(
    core: Recorder, started: list[Agent], tmp_path: Path
) -> None:
    """
    Report after report with the same head asks for nothing else.
    """
    start(started, tmp_path, core.url)
    until(lambda: len(core.reports) >= 3, 20)
    time.sleep(0.5)
    asked = sum("/api/blob" in line for line in core.asked)
    sent = len(core.reports)
    until(lambda: len(core.reports) >= sent + 3, 20)
    assert asked == sum("/api/blob" in line for line in core.asked)

    core.head = 5

    until(lambda: sum("/api/blob:changes" in line for line in core.asked[-5:]), 20)
