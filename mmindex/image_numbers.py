"""Numbers of one image that ordering slices, placing tiles and showing pixels need.

Values as the file has them at its top level; those of the functional groups of an enhanced
multi-frame image (PS3.3 C.7.6.16) are not looked at.
"""

from typing import NamedTuple


class ImageNumbers(NamedTuple):
    """Attributes that place an image among others and its pixels on a screen.

    An attribute is None, or empty, where the file does not have it or has something else there.

    Attributes
    ----------
    instance_number : int or None
        (0020,0013).
    rescale_slope, rescale_intercept : float or None
        (0028,1053) and (0028,1052): output = slope * stored value + intercept. None where the file
        has a Modality LUT or functional groups, too: these go before.
    window_center, window_width : float or None
        The first of (0028,1050) and (0028,1051), in units of the rescaled values.
    pixel_spacing : (float, float) or None
        (0028,0030): mm between rows, mm between columns.
    image_position_patient : (float, float, float) or None
        (0020,0032): the center of the first pixel, in mm.
    image_orientation_patient : tuple of six floats or None
        (0020,0037): direction cosines of a row, then of a column.
    total_pixel_matrix_columns, total_pixel_matrix_rows : int or None
        (0048,0006) and (0048,0007): the size of the image that tiles make up.
    dimension_organization_type : str
        (0020,9311), such as TILED_FULL.
    concatenation_uid : str
        (0020,9161).
    concatenation_frame_offset_number, in_concatenation_number : int or None
        (0020,9228) and (0020,9162).
    frame_time : float or None
        (0018,1063), in ms.
    """

    instance_number: int | None = None
    rescale_slope: float | None = None
    rescale_intercept: float | None = None
    window_center: float | None = None
    window_width: float | None = None
    pixel_spacing: tuple[float, float] | None = None
    image_position_patient: tuple[float, float, float] | None = None
    image_orientation_patient: tuple[float, float, float, float, float, float] | None = None
    total_pixel_matrix_columns: int | None = None
    total_pixel_matrix_rows: int | None = None
    dimension_organization_type: str = ""
    concatenation_uid: str = ""
    concatenation_frame_offset_number: int | None = None
    in_concatenation_number: int | None = None
    frame_time: float | None = None

    @property
    def slice_position(self) -> float | None:
        """Position along the slice normal, in mm; None where position or orientation is absent.

        The normal is the cross product of the row's and the column's direction (PS3.3
        C.7.6.2.1.1), so that slices of one series sort by this number.
        """
        if self.image_position_patient is None or self.image_orientation_patient is None:
            return None
        x, y, z = self.image_position_patient
        a, b, c, d, e, f = self.image_orientation_patient
        return x * (b * f - c * e) + y * (c * d - a * f) + z * (a * e - b * d)


NO_NUMBERS = ImageNumbers()  # of a file that has none
