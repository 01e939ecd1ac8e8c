"""Means of blocks, of pieces in any order: those of numpy over the whole image."""

from __future__ import annotations

import numpy as np
import pytest

from mmindex.read.block_means import BlockMeans


def expect(picture: np.ndarray, step: int) -> np.ndarray:
    rows = [
        [
            picture[y : y + step, x : x + step].mean(axis=(0, 1), dtype=np.float64)
            for x in range(0, picture.shape[1], step)
        ]
        for y in range(0, picture.shape[0], step)
    ]
    means = np.array(rows)
    return means if picture.dtype.kind == "f" else np.floor(means + 0.5)


@pytest.mark.parametrize("dtype", ["u1", "i1", "<u2", "<i2", "<u4", "<f4", "<f8"])
@pytest.mark.parametrize("samples", [(), (3,)])
@pytest.mark.parametrize("step", [2, 7, 16, 50, 400])
def test_means_are_those_of_the_whole_image(dtype, samples, step):
    """Floats keep their fractions; pieces at the edge reach over it."""
    random = np.random.default_rng(step)
    kind = np.dtype(dtype)
    picture = random.uniform(0, 120, (107, 130, *samples)).astype(kind)
    if kind.kind == "i":
        picture = picture - kind.type(60)
    means = BlockMeans(107, 130, step, np.zeros(samples, kind))
    pieces = [(top, left) for top in range(0, 107, 31) for left in range(0, 130, 40)]
    for at in random.permutation(len(pieces)):
        top, left = pieces[at]
        piece = picture[top : top + 31, left : left + 40]
        over = (0, 31 - piece.shape[0]), (0, 40 - piece.shape[1]), *[(0, 0)] * len(samples)
        means.add(np.pad(piece, over, constant_values=99), top, left)
    assert means.means().dtype == kind
    assert np.allclose(means.means(), expect(picture, step), rtol=1e-6)


@pytest.mark.parametrize("dtype", ["u1", "<u2", "<f4"])
def test_what_no_piece_covers_is_background(dtype):
    """Blocks that are covered in part have the mean of both."""
    picture = np.full((90, 70), 9, dtype)
    picture[20:53, 33:45] = 77
    means = BlockMeans(90, 70, 8, np.array(9, dtype))
    means.add(np.full((33, 12), 77, dtype), 20, 33)
    assert np.allclose(means.means(), expect(picture, 8))


def test_a_pixel_that_is_no_number_is_in_its_block_alone():
    """NaN times 0 is NaN."""
    picture = np.ones((64, 64), np.float32)
    picture[3, 5] = np.nan
    means = BlockMeans(64, 64, 8, np.array(0, np.float32))
    means.add(picture, 0, 0)
    assert np.argwhere(np.isnan(means.means())).tolist() == [[0, 0]]
