"""A real C-STORE (PS3.4 Annex B) on loopback: what a modality sends is served from then on."""

from __future__ import annotations

from pathlib import Path

import pytest
from dicom_bytes import EXPLICIT_VR_LITTLE_ENDIAN, small_image

import mmindex
from mmindex.index.store import Store

pynetdicom = pytest.importorskip("pynetdicom")

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


def test_a_stored_instance_is_served_as_soon_as_its_sender_is_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The handler writes, renames, updates; the frame can be read when C-STORE has succeeded."""
    archive, incoming = tmp_path / "archive", tmp_path / "incoming"
    archive.mkdir()
    incoming.mkdir()

    def store(event: pynetdicom.events.Event) -> int:
        name = f"{event.request.AffectedSOPInstanceUID}.dcm"
        (incoming / name).write_bytes(event.encoded_dataset())
        (incoming / name).rename(archive / name)
        mmindex.update(archive, [archive / name], wait=60)
        return 0x0000

    entity = pynetdicom.AE()
    entity.add_supported_context(SECONDARY_CAPTURE, EXPLICIT_VR_LITTLE_ENDIAN)
    entity.add_requested_context(SECONDARY_CAPTURE, EXPLICIT_VR_LITTLE_ENDIAN)
    mmindex.build(archive)
    opened = mmindex.open(archive)
    checks: list[object] = []
    check_pages = Store._check_pages

    def count(index: Store, databases: object) -> None:
        checks.append(databases)
        check_pages(index, databases)

    monkeypatch.setattr(Store, "_check_pages", count)
    handlers = [(pynetdicom.evt.EVT_C_STORE, store)]
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    try:
        association = entity.associate("127.0.0.1", server.socket.getsockname()[1])
        assert association.is_established
        for number in range(3):
            sent = tmp_path / "sent.dcm"
            sent.write_bytes(
                small_image(f"1.2.{number}", b"one.%04d" % number, sop_class=SECONDARY_CAPTURE)
            )
            assert association.send_c_store(str(sent)).Status == 0x0000
            with mmindex.open(archive) as served:
                assert served.frame(f"1.2.{number}", 0) == b"one."
                assert served.frame(f"1.2.{number}", 1) == b"%04d" % number
        association.release()
        assert len(checks) <= 2  # and not one for each file
    finally:
        server.shutdown()
        opened.close()
