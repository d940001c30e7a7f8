"""Requirements files as pip reads them: their encodings. Python 3.6, standard library only."""

import codecs
import re

# https://pip.pypa.io/en/stable/reference/requirements-file-format/#encoding
_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
)
_CODING = re.compile(rb"#.*?coding[:=]\s*([-\w.]+)")


def decode(data: bytes) -> str:
    """Text of a requirements file: by its byte order mark, a coding comment in its first two lines, or as UTF-8.

    Raises ValueError for a file that pip does not read either.
    """
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            return data[len(mark) :].decode(encoding)
    for line in data.split(b"\n")[:2]:
        found = _CODING.match(line)
        if found:
            try:
                return data.decode(found.group(1).decode("ascii"))
            except LookupError as error:
                raise ValueError(str(error)) from None
    return data.decode("utf-8")
