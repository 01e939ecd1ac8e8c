"""Headers of instances: data sets without pixel data, read from their files.

Reading is the slow part of a query, so that what came out of it is kept: a bounded number of
bytes of JSON.
"""

from __future__ import annotations

import json
from urllib.parse import quote

from pydicom import Dataset

from mmindex import Instance
from mmindex.dicom_json import Element, Json, dataset_json
from mmindex.model import InstanceRecord, Status
from mmindex.serve.held import Held, Uids
from mmindex.serve.recent import Recent

BASE = "urn:mmindex:base:7f1d2c"  # stands for the service's URL in JSON that is kept

_MOST_BYTES = 64 << 20
_MOST_ELEMENTS = 250_000
_LONGEST_VALUE = 4096  # characters
_BULK_VRS = {"FloatPixelData": "OF", "DoubleFloatPixelData": "OD"}
PIXEL_TAGS = {
    "PixelData": "7FE00010",
    "FloatPixelData": "7FE00008",
    "DoubleFloatPixelData": "7FE00009",
}


def read_dataset(instance: Instance) -> Dataset:
    """Return the data set of an instance up to its pixel data.

    Raises
    ------
    FormatError
        The header cannot be read.
    """
    found: Dataset = instance.dataset()
    return found


def uri_of(study: str, series: str = "", instance: str = "") -> str:
    """Return the path of a resource; a UID of a file may be any text, which leads nowhere else."""
    pieces = (("studies", study), ("series", series), ("instances", instance))
    return "".join(f"/{name}/{quote(uid, safe='')}" for name, uid in pieces if uid)


def instance_uri(record: InstanceRecord) -> str:
    """Return the path of an instance's resource, below the service's own."""
    return uri_of(*Uids.of(record))


def header_json(instance: Instance) -> Json:
    """Return an instance's metadata (PS3.18 10.4.1.1.2): its header, BulkDataURI of its pixels."""
    record = instance.record
    base = f"{BASE}{instance_uri(record)}/bulkdata/"
    found = dataset_json(read_dataset(instance), lambda path: base + path)
    if record.transfer_syntax_uid:
        syntax: Element = {"vr": "UI", "Value": [record.transfer_syntax_uid]}
        found = {"00083002": syntax, **found}
    if record.status.has_frames or record.status is Status.STREAM:
        keyword = record.image_pixel.pixel_keyword
        tag = PIXEL_TAGS.get(keyword, "7FE00010")
        vr = record.image_pixel.pixel_vr or _BULK_VRS.get(keyword, "OW")
        found[tag] = {"vr": vr, "BulkDataURI": base + tag}
    return found


class HeaderCache:
    """Metadata of instances, the last ones used being kept, each as its file is now.

    Parameters
    ----------
    most_bytes : int
        JSON text that is kept, in bytes.
    most_elements : int
        Elements of the headers that are kept for queries, without their long values: some 400
        bytes each.
    """

    def __init__(self, most_bytes: int = _MOST_BYTES, most_elements: int = _MOST_ELEMENTS) -> None:
        self._longest = most_bytes // 2
        self._texts: Recent[tuple[str, bytes]] = Recent(most_bytes)
        self._summaries: Recent[tuple[str, Json]] = Recent(most_elements)

    def text(self, held: Held) -> bytes:
        """Return the metadata of an instance as JSON text; BASE stands for the service's URL.

        Raises
        ------
        FormatError
            The header cannot be read.
        """
        key = instance_uri(held.record)
        known = self._texts.get(key)
        if known is not None and known[0] == held.etag:
            return known[1]
        text = json.dumps(header_json(held.instance), separators=(",", ":")).encode()
        if len(text) < self._longest:
            self._texts.keep(key, (held.etag, text), len(text))
        return text

    def summary(self, held: Held) -> Json:
        """Return the header of an instance without its long values, for queries.

        Raises
        ------
        FormatError
            The header cannot be read.
        """
        key = instance_uri(held.record)
        known = self._summaries.get(key)
        if known is not None and known[0] == held.etag:
            return known[1]
        whole = header_json(held.instance)
        found = {tag: element for tag, element in whole.items() if _is_short(element)}
        self._summaries.keep(key, (held.etag, found), len(found))
        return found


def _is_short(element: Element) -> bool:
    """Return whether an element is answered by queries."""
    if "BulkDataURI" in element or "InlineBinary" in element:
        return False
    return len(json.dumps(element.get("Value", ()))) <= _LONGEST_VALUE
