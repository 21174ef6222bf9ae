"""Present, blocked, gone: and the one order of all changes (D7)."""

from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest

from soup.blobs import service
from soup.blobs.service import Blobs
from soup.core.blob import State
from soup.core.digest import Digest
from soup.core.errors import BlobBlocked, BlobUnknown, SoupError, StillBlocked
from soup.settings import RUNTIME
from tests.blobs.conftest import LEEK, keep, state
from tests.conftest import Cook, Kitchen


@dataclass
class Model:
    """What should be so: each blob's state and number, and the last number of all."""

    states: dict[Digest, State] = field(default_factory=dict)
    seqs: dict[Digest, int] = field(default_factory=dict)
    head: int = 0

    def become(self, digest: Digest, state: State) -> None:
        if self.states.get(digest) is not state:
            self.head += 1
            self.states[digest], self.seqs[digest] = state, self.head

    def apply(self, verb: str, digest: Digest) -> type[SoupError] | None:
        """Change, or say why not."""
        state = self.states.get(digest, State.GONE)
        if verb == "keep" and state is State.BLOCKED:
            return BlobBlocked
        if verb != "keep" and state is State.GONE:
            return BlobUnknown
        if verb == "delete" and state is State.BLOCKED:
            return StillBlocked
        after = {"delete": State.GONE, "block": State.BLOCKED}.get(verb, State.PRESENT)
        self.become(digest, after)
        return None


async def act(blobs: Blobs, verb: str, data: bytes) -> type[SoupError] | None:
    digest = Digest.of(data)
    try:
        if verb == "keep":
            await keep(blobs, data)
        elif verb == "delete":
            await blobs.delete(digest)
        else:
            await blobs.block(digest, blocked=verb == "block")
    except SoupError as error:
        return type(error)
    return None


async def test_any_history(blobs: Blobs) -> None:
    """
    Each change of state takes exactly one number, what is no change or is refused takes none, and the read
    path knows after every step.
    """
    dice, model = Random(7), Model()
    bodies = [b"leek", b"kale", b"chard"]
    for _ in range(150):
        verb, data = dice.choice(["keep", "keep", "delete", "block", "unblock"]), dice.choice(bodies)

        assert model.apply(verb, Digest.of(data)) == await act(blobs, verb, data)

        assert model.head == (await blobs.feed()).head
        found = {digest: await blobs.ask(digest.raw) for digest in model.states}
        expected = {d: (model.seqs[d], len(_body(d, bodies)), int(s)) for d, s in model.states.items()}
        assert expected == found
    for standing in (State.PRESENT, State.BLOCKED, State.GONE):
        listed = (await blobs.listed(None, 10, standing))[1]
        assert sorted(d for d, s in model.states.items() if s is standing) == [
            facts.digest for facts in listed
        ]


def _body(digest: Digest, bodies: list[bytes]) -> bytes:
    return next(data for data in bodies if Digest.of(data) == digest)


@pytest.mark.parametrize("shared", [True, False])
async def test_another_process_knows_at_once(
    cook: Cook,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    shared: bool,  # noqa: FBT001
) -> None:
    """
    What one core has acknowledged, every other finds at once; what another worker of its machine has
    changed, although it was asked for a moment before.
    """
    if shared:
        monkeypatch.setenv(RUNTIME, str(tmp_path))
    here, there = (await cook()).soup.blobs, (await cook()).soup.blobs
    for verb, expected in (
        ("keep", State.PRESENT),
        ("block", State.BLOCKED),
        ("unblock", State.PRESENT),
        ("delete", State.GONE),
        ("keep", State.PRESENT),
    ):
        if shared:
            assert (await state(here, b"leek")) is (await state(there, b"leek"))

        assert await act(here, verb, b"leek") is None

        assert expected is (await state(there, b"leek"))
        assert (await here.feed()) == (await there.feed())
        here, there = there, here


async def test_gone(kitchen: Kitchen, blobs: Blobs) -> None:
    """
    A deleted blob is unknown to everybody at once, while its bytes are still there.
    """
    await keep(blobs, b"leek")

    await blobs.delete(LEEK)

    with pytest.raises(BlobUnknown):
        await blobs.facts(LEEK)
    with pytest.raises(BlobUnknown):
        await blobs.delete(LEEK)
    with pytest.raises(BlobUnknown):
        await blobs.block(LEEK, blocked=True)
    assert [] == (await blobs.listed(None, 10, State.PRESENT))[1]
    assert [LEEK] == await blobs.missing([LEEK])
    assert (0, 0) == await blobs.counted()
    assert kitchen.file(LEEK).exists()


async def test_blocked(kitchen: Kitchen, blobs: Blobs) -> None:
    """
    A blocked blob keeps its facts and its bytes, so that it can be unblocked; it is not deleted meanwhile.
    """
    await keep(blobs, b"leek")

    await blobs.block(LEEK, blocked=True)

    assert State.BLOCKED is (await blobs.facts(LEEK)).state
    with pytest.raises(StillBlocked):
        await blobs.delete(LEEK)
    assert [LEEK] == await blobs.missing([LEEK])
    assert (0, 0) == await blobs.counted()

    await blobs.block(LEEK, blocked=False)

    assert State.PRESENT is (await state(blobs, b"leek"))
    assert b"leek" == kitchen.file(LEEK).read_bytes()


async def test_what_never_was(blobs: Blobs) -> None:
    """
    Nobody deletes, blocks or asks after what never was.
    """
    for verb in ("delete", "block", "unblock"):
        assert BlobUnknown is await act(blobs, verb, b"leek")
    with pytest.raises(BlobUnknown):
        await blobs.facts(LEEK)

    assert await blobs.ask(LEEK.raw) is None
    assert 0 == (await blobs.feed()).head


async def test_list(blobs: Blobs) -> None:
    """
    Lists go by digest, from behind `after`, up to the limit; pages put together are the whole.
    """
    digests = sorted([(await keep(blobs, b"%d" % number)).digest for number in range(10)])

    assert digests == [facts.digest for facts in (await blobs.listed(None, 100, State.PRESENT))[1]]
    pages, after = [], None
    while page := [facts.digest for facts in (await blobs.listed(after, 3, State.PRESENT))[1]]:
        pages.append(page)
        after = page[-1]
    assert [digests[:3], digests[3:6], digests[6:9], digests[9:]] == pages
    between = Digest(digests[4][:-1] + ("0" if digests[4][-1] != "0" else "1"))
    expected = [digest for digest in digests if digest > between]
    assert expected == [facts.digest for facts in (await blobs.listed(between, 100, State.PRESENT))[1]]


async def test_missing(blobs: Blobs) -> None:
    """
    What is missing is told in the order it was asked, however many are asked for.
    """
    here = [(await keep(blobs, b"%d" % number)).digest for number in range(3)]
    absent = [Digest.of(b"absent %d" % number) for number in range(2500)]
    asked = [*absent[:1200], here[0], *absent[1200:], *here]

    assert absent == await blobs.missing(asked)
    assert [] == await blobs.missing(here)
    assert [] == await blobs.missing([])


async def test_counted(blobs: Blobs) -> None:
    """
    Blobs are counted with their bytes, those alone that are present.
    """
    for data in (b"leek", b"kale", b"", b"chard"):
        await keep(blobs, data)
    await blobs.delete(Digest.of(b"kale"))

    assert (3, 9) == await blobs.counted()


async def test_counted_in_pieces(blobs: Blobs, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    However many rows are looked at in one question, the count is the same.
    """
    for data in (b"leek", b"kale", b"", b"chard"):
        await keep(blobs, data)
    await blobs.delete(Digest.of(b"kale"))

    for many in (1, 2, 3, 4):
        monkeypatch.setattr(service, "COUNTED", many)
        assert (3, 9) == await blobs.counted()


async def test_the_feed_has_a_name(cook: Cook) -> None:
    """
    A history keeps its epoch over a restart, and the head goes on where it was.
    """
    first = (await cook()).soup.blobs
    await keep(first, b"leek")
    before = await first.feed()

    again = (await cook()).soup.blobs

    assert before == await again.feed()
    assert before.epoch
    assert 1 == before.head
