import torch

from coterie.backbones.table import TableMLP


def test_codes_pick_the_rows_of_their_columns_embedding() -> None:
    network = TableMLP(8, 2, (3, 100), 4).eval()
    assert [(table.num_embeddings, table.embedding_dim) for table in network.embeddings] == [(3, 3), (100, 16)]
    row_BF = torch.tensor([[0.5, -1.0, 2.0, 99.0], [0.0, 3.0, 0.0, 7.0]])
    first, second = (table.weight for table in network.embeddings)
    expected = torch.cat([row_BF[:, :2], first[[2, 0]], second[[99, 7]]], dim=1)
    torch.testing.assert_close(network(row_BF), network.head(network.hidden(expected)))


def test_a_table_without_categories_is_its_numbers() -> None:
    network = TableMLP(8, 3, (), 4).eval()
    x = torch.randn(5, 3)
    torch.testing.assert_close(network(x), network.head(network.hidden(x)))
