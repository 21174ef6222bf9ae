"""Which status a mirror reports, and which blobs it answers for."""

import pytest
from hypothesis import given
from hypothesis import strategies as some
from soup_cdn_agent.standing import LACKING, Claim, Facts, Status, claim, standing

WELL = Facts(looked=True)


def test_a_blob_that_was_read_right_is_all_it_takes() -> None:
    """
    Status 1 needs a blob that was read through the web server, and nothing that speaks against it.
    """
    assert (Status.OK, None) == standing(WELL, behind=10)


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        (Facts(), "no blob is here yet"),
        (Facts(looked=True, full="the disk is full"), "the disk is full"),
        (Facts(looked=True, wanted=11), "11 blobs behind"),
        (Facts(looked=True, failing=2), "2 blobs cannot be fetched"),
        (Facts(looked=True, reading="looking through its folder"), "looking through its folder"),
    ],
)
def test_a_mirror_with_less_than_all_warns(facts: Facts, reason: str) -> None:
    """
    A full disk, too many blobs behind, or only some of them: status 2, and why.
    """
    assert (Status.WARNING, reason) == standing(facts, behind=10)


def test_ten_behind_is_no_warning_where_ten_are_allowed() -> None:
    """
    The limit itself is still well.
    """
    assert Status.OK == standing(Facts(looked=True, wanted=10), behind=10)[0]


@pytest.mark.parametrize("fault", [{"probe": "it answered 404"}, {"unwritable": "read-only"}])
def test_what_clients_would_see_is_an_error_whatever_else_is(fault: dict[str, str]) -> None:
    """
    A read that fails, or a folder that cannot be written, is status 3 and is said first.
    """
    facts = Facts(looked=True, full="the disk is full", wanted=1000, **fault)

    assert (Status.ERROR, next(iter(fault.values()))) == standing(facts, behind=10)


@pytest.mark.row("S13")
@given(
    some.builds(
        Facts,
        probe=some.none() | some.just("x"),
        looked=some.booleans(),
        unwritable=some.none() | some.just("x"),
        full=some.none() | some.just("x"),
        reading=some.none() | some.just("x"),
        wanted=some.integers(0, 10**7),
        failing=some.integers(0, 10**7),
    )
)
def test_no_facts_make_it_say_0(facts: Facts) -> None:
    """
    Status 0 is the core's word for silence; the agent has none for it.
    """
    assert standing(facts, behind=1000)[0] in {1, 2, 3}


def test_who_wants_nothing_claims_everything() -> None:
    """
    All up to the cursor, with nothing lacking.
    """
    assert Claim(70, ()) == claim(70, [])


def test_a_few_that_are_wanted_are_named() -> None:
    """
    Up to a thousand blobs are named one by one, so that the others may be asked for.
    """
    assert Claim(70, ((3, "a"), (9, "b"))) == claim(70, [(3, "a"), (9, "b")])


def test_more_than_can_be_named_lower_the_claim() -> None:
    """
    The first that cannot be named ends what is claimed.
    """
    wanted = [(2 * place, f"{place}") for place in range(1, LACKING + 2)]

    said = claim(5000, wanted)

    assert 2 * (LACKING + 1) - 1 == said.synced_to
    assert LACKING == len(said.lacking)


@given(some.sets(some.integers(1, 3000), max_size=2500), some.integers(3000, 4000))
def test_nothing_that_is_wanted_is_ever_claimed(numbers: set[int], cursor: int) -> None:
    """
    A wanted blob is above what is claimed, or named as lacking; everything below is neither.
    """
    wanted = [(number, str(number)) for number in sorted(numbers)][: LACKING + 1]

    said = claim(cursor, wanted)

    for number in numbers:
        assert number > said.synced_to or (number, str(number)) in said.lacking
    assert len(said.lacking) <= LACKING
    assert said.synced_to <= cursor


def test_a_claim_is_less_only_where_somebody_could_be_sent() -> None:
    """
    A blob that was never claimed takes nothing away by being wanted.
    """
    before = Claim(70, ((3, "a"),))

    assert not Claim(90, ((3, "a"), (80, "new"))).less_than(before)
    assert not Claim(70, ()).less_than(before)
    assert Claim(69, ((3, "a"),)).less_than(before)
    assert Claim(90, ((3, "a"), (70, "lost"))).less_than(before)
