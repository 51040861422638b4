"""Do plain timm, plain onnxruntime and an HTTP client say what ft.predict says?

    python -m tests.benchmarks.agreement RUN IMAGES OUT.json

RUN is a run folder, IMAGES a folder of images, such as its test split. The run is exported and served; each client is a
process of its own that must not import ft. About a minute for 400 images of 224 pixels on 2 cores. The table has the
largest difference of a probability and the share of images with the same class; the figures are written to OUT too.
"""

import argparse
import csv
import json
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.deploy.serving import Served

NO_FT = "import sys; assert not [name for name in sys.modules if name.split('.')[0] == 'ft'], 'ft was imported'"
TIMM = """
import json, sys
import timm, torch
from PIL import Image, ImageOps
model = timm.create_model(f"local-dir:{sys.argv[1]}", pretrained=True).eval()
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
with torch.inference_mode():
    for file in json.load(sys.stdin):
        image = ImageOps.exif_transpose(Image.open(file)).convert("RGB")
        told = model(transform(image)[None]).softmax(1)[0].tolist()
        print(json.dumps(dict(zip(model.pretrained_cfg["label_names"], told))))
"""
ONNX = """
import json, sys
import numpy as np
import onnxruntime
from PIL import Image, ImageOps
session = onnxruntime.InferenceSession(f"{sys.argv[1]}/model.onnx")
said = {name: json.loads(text) for name, text in session.get_modelmeta().custom_metadata_map.items()}
how = said["preprocessing"]
(height, width), cover = how["center_crop"], how["resize_to_cover"]
mean, std = (np.array(how[name], np.float32).reshape(-1, 1, 1) for name in ("mean", "std"))
for file in json.load(sys.stdin):
    image = ImageOps.exif_transpose(Image.open(file)).convert(how["mode"])
    scale = max(cover[0] / image.height, cover[1] / image.width)
    size = round(image.width * scale), round(image.height * scale)
    image = image.resize(size, Image.Resampling[how["interpolation"].upper()])
    left, top = (image.width - width) // 2, (image.height - height) // 2
    pixels = np.asarray(image.crop((left, top, left + width, top + height))).transpose(2, 0, 1)
    logits = session.run(None, {"input": ((pixels.astype(np.float32) / 255 - mean) / std)[None]})[0][0]
    powers = np.exp(logits - logits.max())
    print(json.dumps(dict(zip(said["classes"], (powers / powers.sum()).tolist()))))
"""
HTTP = """
import base64, json, sys, urllib.request
count = len(json.load(urllib.request.urlopen(f"{sys.argv[1]}/info"))["classes"])
for file in json.load(sys.stdin):
    body = json.dumps({"image": base64.b64encode(open(file, "rb").read()).decode()}).encode()
    request = urllib.request.Request(f"{sys.argv[1]}/predict?top_k={count}", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        (told,) = json.load(answer)["predictions"]
    print(json.dumps({each["label"]: each["probability"] for each in told["top_k"]}))
"""


def ft(*words: str) -> None:
    subprocess.run([sys.executable, "-m", *words], check=True, stdout=subprocess.DEVNULL)


def client(program: str, where: str, files: list[str], place: Path) -> list[dict[str, float]]:
    """What a process without ft says of every image: class to probability."""
    command = [sys.executable, "-c", f"{program}\n{NO_FT}", where]
    ended = subprocess.run(command, input=json.dumps(files), capture_output=True, text=True, cwd=place)
    if ended.returncode:
        raise SystemExit(ended.stderr)
    return [json.loads(line) for line in ended.stdout.splitlines()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("out", type=Path)
    asked = parser.parse_args()
    run, images = asked.run.resolve(), asked.images.resolve()
    print("about a minute for 400 images of 224 pixels", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        table = place / "predictions.csv"
        ft("ft.predict", f"run='{run}'", f"input='{images}'", f"output='{table}'", "probabilities=true")
        ft("ft.export", f"run='{run}'", "format=[timm,onnx]", f"output='{place}/export'")
        rows = list(csv.DictReader(table.read_text(encoding="utf-8").splitlines()))
        files = [str(images / row["image"]) for row in rows]
        said = {
            "plain timm": client(TIMM, f"{place}/export/timm", files, place),
            "plain onnxruntime": client(ONNX, f"{place}/export/onnx", files, place),
        }
        server = Served(f"run='{run}'")
        try:
            said["HTTP client"] = client(HTTP, server.url, files, place)
        finally:
            server.process.send_signal(signal.SIGTERM)
            server.end()
    results = {}
    for name, answers in said.items():
        differences = [
            abs(told - float(row[f"probability_{label}"]))
            for row, answer in zip(rows, answers, strict=True)
            for label, told in answer.items()
        ]
        same = [max(answer, key=answer.__getitem__) == row["label"] for row, answer in zip(rows, answers, strict=True)]
        results[name] = {"images": len(rows), "max_difference": max(differences), "agreement": sum(same) / len(same)}
        print(f"{name:<18} {len(rows)} images, largest difference {max(differences):.1e}, same class {sum(same)}")
    asked.out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
