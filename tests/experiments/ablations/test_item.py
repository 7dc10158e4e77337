from matplotlib.figure import Figure

from experiments.ablations.comparison import Cell, Column, Comparison, Row, as_text
from experiments.ablations.item import Item, write

TABLE = Comparison("Table 0", (Column("avg"),), (Row("CASE", (Cell((45.0,)),)),))


def test_a_table_is_written_in_three_forms_and_returned_as_text(tmp_path):
    text, paths = write(Item(TABLE), tmp_path / "table_0")
    assert text == as_text(TABLE)
    assert [path.name for path in paths] == ["table_0.md", "table_0.csv", "table_0.json"]
    assert all(path.exists() for path in paths)


def test_a_figure_and_its_data_are_written_beside_the_table(tmp_path):
    _, paths = write(Item(TABLE, Figure(), {"points": [1]}), tmp_path / "figure_0")
    assert [path.suffix for path in paths] == [".md", ".csv", ".json", ".png", ".svg"]
    assert '"points"' in paths[2].read_text()
