"""Images that two splits share though their pixels differ a little: the same picture saved twice."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own abbreviation

from coterie.data.decode import FileImages
from coterie.data.pixels import COARSE, thumbnails
from coterie.inputs import Samples

# Cells to a side of the means of grey that decide, with coarse ones of colour.
FINE = 16
# Cells with a smaller standard deviation, of 255: too flat to be told from others.
LEAST_CONTRAST = 8.0
# Cosine of two thumbnails of mean 0. JPEG of quality 75 leaves 99 of 100 pictures of 32 pixels nearer.
LEAST_COSINE = 0.995
# The largest difference of two cells, of 255, and what the differences are of the contrast, both squared. JPEG of
# quality 75 stays below in 97 of 100 pictures of 32 pixels; glyphs that differ by an accent do not.
MOST_DIFFERENCE = 24.0
MOST_ERROR = 0.02
ROWS_AT_ONCE = 512
# Of one comparison of all with all, which takes 64 MiB.
BLOCKS = (2048, 8192)


def near_rows(first: Samples, second: Samples) -> list[tuple[int, int]]:
    """Pairs of rows, one of each, that hold the same picture up to what encoding changes: for each row of ``second`` at
    most one, the nearest. Nearly flat pictures are passed over, of which many are alike.
    """
    (row_F, unit_FT), (row_S, unit_ST) = (_units(thumbnails_of(samples)) for samples in (first, second))
    pairs = []
    for rows, part_ST in zip(row_S.split(BLOCKS[0]), unit_ST.split(BLOCKS[0]), strict=True):
        if len(rows) == 0 or len(row_F) == 0:
            continue
        blocks = [(part_ST @ block_FT.T).max(1) for block_FT in unit_FT.split(BLOCKS[1])]
        cosine_S, block_S = torch.stack([block.values for block in blocks]).max(0)
        place_S = torch.stack([block.indices for block in blocks]).gather(0, block_S[None])[0] + block_S * BLOCKS[1]
        near = cosine_S >= LEAST_COSINE
        pairs.append(torch.stack([row_F[place_S[near]], rows[near]], 1))
    every = torch.cat(pairs) if pairs else torch.empty((0, 2), dtype=torch.int64)
    return [pair for part in every.split(ROWS_AT_ONCE) for pair in _same(first, second, part)]


def thumbnails_of(samples: Samples) -> Tensor:
    """As ``thumbnails``, of all samples; those of images that stay encoded were made when they were decoded."""
    if isinstance(samples, FileImages) and samples.thumb_NT is not None:
        return samples.thumb_NT[samples.rows]
    return torch.cat([thumbnails(samples.read(rows)) for rows in torch.arange(len(samples)).split(ROWS_AT_ONCE)])


def _units(thumb_NT: Tensor) -> tuple[Tensor, Tensor]:
    """Rows with enough contrast, and their thumbnails with mean 0 and length 1."""
    centred_NT = thumb_NT.float() - thumb_NT.float().mean(1, keepdim=True)
    rows = torch.nonzero(centred_NT.square().mean(1).sqrt() >= LEAST_CONTRAST).squeeze(1)
    return rows, F.normalize(centred_NT[rows], dim=1)


def _same(first: Samples, second: Samples, pairs: Tensor) -> list[tuple[int, int]]:
    """Those of the pairs that are near in colour by coarse cells, and in grey by fine ones."""
    one, other = (
        samples.read(rows).float().permute(0, 3, 1, 2)
        for samples, rows in ((first, pairs[:, 0]), (second, pairs[:, 1]))
    )
    colour = _close(one, other, COARSE)
    grey = _close(one.mean(1, keepdim=True), other.mean(1, keepdim=True), FINE)
    return [(row, other_row) for row, other_row in pairs[colour & grey].tolist()]


def _close(one_NCHW: Tensor, other_NCHW: Tensor, cells: int) -> Tensor:
    one, other = (F.adaptive_avg_pool2d(pixels, cells).flatten(1) for pixels in (one_NCHW, other_NCHW))
    difference = (one - other).abs()
    contrast = (one - one.mean(1, keepdim=True)).square().mean(1)
    return (difference.amax(1) <= MOST_DIFFERENCE) & (difference.square().mean(1) <= MOST_ERROR * contrast)
