"""Retrieval: WADO-RS instances, metadata and bulk data (PS3.18 10.4)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from pydicom import Dataset
from pydicom.dataelem import RawDataElement

from mmindex.dicom_json import find_vr, swap_words, word_size
from mmindex.errors import MMIndexError
from mmindex.serve.accept import NotAcceptableError, in_transfer_syntax, parse_accept
from mmindex.serve.catalogue import Catalogue
from mmindex.serve.errors import RequestError
from mmindex.serve.headers import HeaderCache, read_dataset
from mmindex.serve.held import Held, Uids
from mmindex.serve.multipart import Multipart
from mmindex.serve.pixel_data import Piece, chunk_size
from mmindex.serve.shelf import Shelf

DICOM = "application/dicom"
_MOST_FILES = 100_000  # of one answer


class Found(NamedTuple):
    """The instances of a study or series that can be sent, and whether these are all of them."""

    uids: Sequence[Uids]
    is_whole: bool


class RetrieveService:
    """Finds what is to be sent; its methods run in threads."""

    def __init__(
        self, shelf: Shelf, catalogue: Catalogue, headers: HeaderCache, multipart: Multipart
    ) -> None:
        self._shelf = shelf
        self._catalogue = catalogue
        self._headers = headers
        self._multipart = multipart

    def uids(self, study: str, series: str | None) -> list[Uids]:
        """Return the UIDs of the instances of a study or of one of its series.

        Raises
        ------
        RequestError
            There is none: status 404.
        """
        found = self._catalogue.rows(study)
        if not found:
            raise RequestError(404, "there is no such study")
        if series is not None and series not in found:
            raise RequestError(404, "there is no such series in this study")
        uids = [
            Uids(study, one, uid)
            for one, rows in found.items()
            if series in (None, one)
            for uid in rows
        ]
        if len(uids) > _MOST_FILES:
            raise RequestError(400, f"an answer has at most {_MOST_FILES} instances")
        return uids

    def readable(self, uids: Sequence[Uids], accept: str | None = None) -> Found:
        """Return those instances whose files are as they were indexed.

        Parameters
        ----------
        accept : str, optional
            Media types: an instance that the client takes in none of them is left out.

        Raises
        ------
        MMIndexError, NotAcceptableError, OSError
            There is none.
        """
        found = []
        failure: Exception = RequestError(404, "there is no instance")
        for one in uids:
            try:
                held = self._shelf.open(one)
                if accept is not None:
                    require_dicom(accept, held.record.transfer_syntax_uid)
                held.check()
            except (MMIndexError, NotAcceptableError, OSError) as error:
                failure = error
                continue
            found.append(one)
        if not found:
            raise failure
        return Found(found, len(found) == len(uids))

    def joined_metadata(self, uids: Sequence[Uids]) -> tuple[bytes, bool]:
        """Return a JSON array of headers, and whether none was left out.

        Raises
        ------
        MMIndexError, OSError
            No header can be read.
        """
        texts = []
        failure: Exception = RequestError(404, "there is no instance")
        for one in uids:
            try:
                texts.append(self._headers.text(self._shelf.open(one)))
            except (MMIndexError, OSError) as error:
                failure = error
        if not texts:
            raise failure
        return b"[" + b",".join(texts) + b"]", len(texts) == len(uids)

    def metadata(self, uids: Sequence[Uids]) -> Iterator[bytes]:
        """Yield a JSON array of headers (PS3.18 10.4.1.1.2), one a piece.

        Raises
        ------
        MMIndexError, OSError
            A header cannot be read.
        """
        before = b"["
        for one in uids:
            yield before + self._headers.text(self._shelf.open(one))
            before = b","
        yield b"]"

    def files(self, uids: Sequence[Uids]) -> Iterator[bytes]:
        """Yield a message of part 10 files as they are (PS3.18 10.4.1.1.1).

        Raises
        ------
        MMIndexError, OSError
            A file cannot be read: what was sent before is no whole message, as a client notices.
        """
        first = True
        for one in uids:
            held = self._shelf.open(one)
            chunks = walk_file(held)
            opening = next(chunks, b"")
            content_type = in_transfer_syntax(DICOM, held.record.transfer_syntax_uid)
            yield self._multipart.part_head(content_type, first=first)
            first = False
            yield opening
            yield from chunks
        yield self._multipart.closing

    def element(self, held: Held, path: str) -> bytes:
        """Return the value of an element of the header: bulk data (PS3.18 10.4.1.1.5).

        Raises
        ------
        RequestError
            There is none at the path: status 404. It is Big Endian, and its words are not known:
            status 406.
        FormatError
            The header cannot be read.
        """
        dataset = read_dataset(held.instance)
        *outer, last = path.split("/")
        if len(outer) % 2:
            raise RequestError(404, "bulk data is at a tag, or below items of sequences")
        for tag, number in zip(outer[::2], outer[1::2], strict=True):
            dataset = _find_item(dataset, tag, number)
        raw = _find_raw(dataset, last)
        value = raw.value or b""
        if raw.is_little_endian:
            return value
        vr = find_vr(raw.tag, raw.VR)
        size = word_size(vr)
        if len(value) % size or (size > 1 and raw.VR == "UN"):
            raise RequestError(406, f"the value is Big Endian, and no whole number of {vr} words")
        return swap_words(value, size)


def require_dicom(accept: str, transfer_syntax_uid: str) -> None:
    """Raise NotAcceptableError unless a client takes part 10 files of this transfer syntax."""
    for one in parse_accept(accept):
        if one.matches(DICOM) and one.transfer_syntax in (None, "*", transfer_syntax_uid):
            return
    raise NotAcceptableError(
        f"instances are sent as stored: accept multipart/related; type={DICOM!r}, in "
        f"transfer-syntax=* or {transfer_syntax_uid}"
    )


def walk_file(held: Held) -> Iterator[bytes]:
    """Yield the file of an instance as it was indexed, a chunk at a time.

    Raises
    ------
    StaleIndexError, MissingFileError, TruncatedFrameError, RemoteReadError
        As `Instance.read_file`.
    """
    start, length = held.instance.file_range
    piece = Piece(held.instance.read_file, start, start + length, chunk_size(held))
    return piece.walk()


def _find_item(dataset: Dataset, tag: str, number: str) -> Dataset:
    missing = RequestError(404, "there is no such item")
    if not (_is_tag(tag) and number.isascii() and number.isdigit() and len(number) < 8):
        raise missing
    if int(tag, 16) not in dataset:
        raise missing
    element = dataset[int(tag, 16)]
    if element.VR != "SQ" or not 1 <= int(number) <= len(element.value):
        raise missing
    found: Dataset = element.value[int(number) - 1]
    return found


def _find_raw(dataset: Dataset, tag: str) -> RawDataElement:
    raw = None
    if _is_tag(tag) and int(tag, 16) in dataset:
        raw = dataset.get_item(int(tag, 16))
    if not isinstance(raw, RawDataElement):
        raise RequestError(404, "there is no such element")
    return raw


def _is_tag(text: str) -> bool:
    return len(text) == 8 and all(char in "0123456789abcdefABCDEF" for char in text)
