"""The plots of the README."""

from bench import plots
from bench.figures import Figure, Round
from bench.rows import ROWS


def test_plots(tmp_path) -> None:
    """
    The same figures give the same small files, whose words are words and which say nothing of their day.
    """
    sides = {"soup": [Round(1, 1, 1, 1)]}
    figures = [Figure(row.name, [0.2, 0.3, 0.4], sides).plain() for row in ROWS]
    sweeps = {"blobs": [[10_000, 20.0], [10_000_000, 25.0]], "mirrors": [[3, 20.0], [10_000, 24.0]]}
    made = []
    for place in ("one", "two"):
        (tmp_path / place).mkdir()
        made.append([file.read_text() for file in plots.drawn(tmp_path / place, figures, sweeps)])

    assert made[0] == made[1]
    assert ["ratios", "growth"] == [file.stem for file in plots.drawn(tmp_path / "two", figures, sweeps)]
    assert all(len(text) < 60_000 and "<dc:date>" not in text for text in made[0])
    assert ">redirect.sqlite</text>" in made[0][0]
