"""Only where mmsegmentation is installed: `make test-mmseg`."""

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # about operations that nothing here needs
    import mmseg.apis  # noqa: F401 - registers all it has
