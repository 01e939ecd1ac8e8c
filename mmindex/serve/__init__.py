"""DICOMweb (PS3.18) and a viewer page over an archive: `mmindex.serve.application`.

It needs the extra: pip install 'mmindex[serve]'.
"""

from __future__ import annotations

from mmindex.serve.app import application
from mmindex.serve.limits import Limits

__all__ = ["Limits", "application"]
