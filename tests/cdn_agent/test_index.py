"""What should be in a mirror's folder."""

import sqlite3
from pathlib import Path

import pytest
from soup_cdn_agent.index import Index, Wanted


def blob(number: int, size: int = 10) -> Wanted:
    return Wanted(f"{number:064x}", size, 1_700_000_000, number)


@pytest.fixture
def index(tmp_path: Path) -> Index:
    return Index(tmp_path / "index.db")


def test_what_is_expected_is_wanted_until_it_arrives(index: Index) -> None:
    """
    Oldest change first; what has arrived is wanted no more.
    """
    index.expect([blob(3), blob(1), blob(2)], round=1)
    index.arrived([blob(1).digest])

    assert [blob(2), blob(3)] == index.wanted(10)
    assert [(2, blob(2).digest), (3, blob(3).digest)] == index.wanted_numbers(10)
    assert (3, 2) == index.counts()


def test_sizes_part_the_small_from_the_large(index: Index) -> None:
    """
    `above` is exclusive and `up_to` inclusive: no blob is on both lists.
    """
    index.expect([blob(1, 10), blob(2, 11)], round=1)

    assert [blob(1, 10)] == index.wanted(10, up_to=10)
    assert [blob(2, 11)] == index.wanted(10, above=10)


def test_a_blob_that_is_here_stays_here_when_it_is_named_again(index: Index) -> None:
    """
    A list that is read again makes nobody fetch what is here; its number moves.
    """
    index.expect([blob(1)], round=1)
    index.arrived([blob(1).digest])
    index.expect([Wanted(blob(1).digest, 10, 1_700_000_000, 9)], round=2)

    assert [] == index.wanted(10)
    assert 9 == index.after(None, 10)[0].seq


def test_a_blob_that_arrives_after_it_was_forgotten_is_unwelcome(index: Index) -> None:
    """
    Somebody has deleted it while it was on its way.
    """
    index.expect([blob(1), blob(2)], round=1)
    index.forget([blob(1).digest])

    assert [blob(1).digest] == index.arrived([blob(1).digest, blob(2).digest])
    assert index.here(blob(1).digest) is None
    assert index.here(blob(2).digest) is True


def test_what_a_round_did_not_name_is_outdated(index: Index) -> None:
    """
    Whatever the last list left out, the core does not have.
    """
    index.expect([blob(1), blob(2)], round=1)
    index.expect([blob(2)], round=2)

    assert [blob(1).digest] == index.outdated(2, 10)


def test_notes_outlive_the_agent(index: Index) -> None:
    """
    What was written down is there for the next one, the boot id included.
    """
    index.write(cursor=7, totals={"bytes": 1})
    boot_id = index.note("boot_id")
    index.close()

    again = Index(index.file)

    assert (7, {"bytes": 1}, boot_id) == (again.note("cursor"), again.note("totals"), again.note("boot_id"))


def test_an_index_that_is_rubbish_is_begun_anew(tmp_path: Path) -> None:
    """
    Half a page after a power cut must not keep a mirror down: the feed says it all again.
    """
    (tmp_path / "index.db").write_bytes(b"rubbish" * 1000)

    index = Index(tmp_path / "index.db")

    assert (0, 0) == index.counts()
    assert index.note("cursor") is None


def test_an_index_whose_file_is_gone_is_lost(index: Index) -> None:
    """
    Whoever empties the folder takes the index along; another file in its place is another index.
    """
    assert not index.lost

    index.file.unlink()
    assert index.lost

    Index(index.file)
    assert index.lost


def test_a_write_that_fails_changes_nothing(index: Index) -> None:
    """
    Several rows are written together or not at all.
    """
    with pytest.raises(sqlite3.Error):
        index.expect([blob(1), Wanted(blob(2).digest, None, 0, 2)], round=1)  # type: ignore[arg-type]

    assert (0, 0) == index.counts()


def test_any_prefers_the_small(index: Index) -> None:
    """
    A blob to look at is a small one where there is one, and the smallest otherwise.
    """
    index.expect([blob(1, 10), blob(2, 5000)], round=1)
    assert index.any(100) is None

    index.arrived([blob(2, 5000).digest])
    assert blob(2, 5000) == index.any(100)

    index.arrived([blob(1).digest])
    assert {blob(1)} == {index.any(100) for _ in range(20)}


def test_what_was_served_in_one_moment_is_paged_through(index: Index) -> None:
    """
    A whole folder that was found at once: each blob is on one page, the oldest first.
    """
    index.found([blob(number) for number in range(2500)], 7.0)
    index.found([blob(2500)], 6.0)

    found, after = list[str](), (0.0, "")
    while rows := index.longest_ago(8.0, after, 1000):
        found += [digest for digest, _, _ in rows]
        after = rows[-1][2], rows[-1][0]

    assert [blob(number).digest for number in (2500, *range(2500))] == found
