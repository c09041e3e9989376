"""Pictures and what torchvision's transforms make of them.

Usage: python3 make_pictures.py ASTRONAUT.png OUTDIR   (torchvision, Pillow, numpy)

ASTRONAUT.png is NASA's portrait of Eileen Collins (public domain), as in
scikit-image's data. Files: NAME.{png,jpg} the picture; NAME.rgb.png its pixels
by Pillow; NAME.RESIZE-CROP-FILTER.png the picture resized and cropped.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

FILTERS = {"bilinear": InterpolationMode.BILINEAR, "bicubic": InterpolationMode.BICUBIC}


def main(source, out):
    photo = Image.open(source).convert("RGB").crop((120, 0, 321, 153))
    photo.save(out / "photo.png")
    photo.convert("L").save(out / "grey.png")
    photo.convert("LA").save(out / "grey-alpha.png")
    alpha = photo.copy()
    alpha.putalpha(photo.convert("L"))
    alpha.save(out / "alpha.png")
    photo.quantize(60).save(out / "palette.png")
    photo.convert("1").save(out / "one-bit.png")
    deep = np.asarray(photo.convert("L")).astype(np.uint16)
    Image.fromarray(deep * 3).save(out / "grey-16.png")
    photo.save(out / "usual.jpg", quality=75)
    photo.save(out / "full-chroma.jpg", quality=90, subsampling=0)
    photo.save(out / "half-chroma.jpg", quality=85, subsampling=1)
    photo.save(out / "progressive.jpg", quality=75, progressive=True)
    photo.convert("L").save(out / "grey.jpg", quality=80)
    photo.convert("CMYK").save(out / "cmyk.jpg", quality=80)
    photo.crop((50, 50, 51, 51)).save(out / "dot.png")
    for path in sorted([*out.glob("*.png"), *out.glob("*.jpg")]):
        if path.name.count(".") == 1:
            Image.open(path).convert("RGB").save(out / (path.stem + path.suffix.replace(".", "-") + ".rgb.png"), optimize=True)
    for name, picture in [("photo", photo), ("tall", photo.transpose(Image.Transpose.ROTATE_90))]:
        if name == "tall":
            picture.save(out / "tall.png")
        for filter_name, interpolation in FILTERS.items():
            for resize, crop in [(64, 56), (97, 85), (256, 224), (40, 47)]:
                made = Compose([Resize(resize, interpolation=interpolation), CenterCrop(crop)])(picture)
                if crop > 100 and name == "tall":
                    continue
                made.save(out / f"{name}.{resize}-{crop}-{filter_name}.png", optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
