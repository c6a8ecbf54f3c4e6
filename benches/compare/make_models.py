"""Makes ViT-B/32 at full size with random weights, as transformers defines and exports it: two float32 ONNX files, their
dynamically quantised int8 twins (onnxruntime), the image tower as rten's own script quantises it and as OpenVINO's NNCF
does, tokenizer and configuration. No published weights are needed: speed does not depend on what the numbers are.

    python make_models.py FOLDER
"""
import json
import sys
from pathlib import Path

import nncf
import numpy as np
import openvino
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from transformers import CLIPConfig, CLIPModel, CLIPTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode

MERGES = Path(__file__).parents[2] / "models" / "clip-merges.txt"
MEAN, STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]


class Text(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids):
        out = self.model.text_model(input_ids=input_ids)
        return self.model.text_projection(out.pooler_output)


class Image(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, pixel_values):
        out = self.model.vision_model(pixel_values=pixel_values)
        return self.model.visual_projection(out.pooler_output)


def build():
    """CLIP ViT-B/32, the same random weights each time."""
    torch.manual_seed(0)
    config = CLIPConfig(text_config=dict(bos_token_id=49406, eos_token_id=49407, pad_token_id=49407), vision_config={})
    return CLIPModel._from_config(config, attn_implementation="sdpa").eval(), config


def tokenizer():
    merges = [tuple(line.split()) for line in MERGES.read_text(encoding="utf-8").splitlines()]
    symbols = list(bytes_to_unicode().values())
    tokens = symbols + [s + "</w>" for s in symbols] + ["".join(m) for m in merges] + ["<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizerFast(vocab={token: i for i, token in enumerate(tokens)}, merges=merges).backend_tokenizer


def export(module, example, path, name, axes, output):
    with torch.no_grad():
        torch.onnx.export(module, (example,), str(path), input_names=[name], output_names=[output], opset_version=17, dynamo=False,
                          dynamic_axes={name: axes, output: {0: "batch"}})
    quantize_dynamic(path, path.with_name(path.stem + "_int8.onnx"), weight_type=QuantType.QInt8)


def quantise_for_others(folder):
    """The image tower in eight bits, for rten and for OpenVINO, as the documentation of each says."""
    # rten's tools/ort-quantize.py: no convolutions, and weights of seven bits, which no processor's products overflow.
    quantize_dynamic(folder / "visual.onnx", folder / "visual_int8_rten.onnx", weight_type=QuantType.QInt8, reduce_range=True,
                     op_types_to_quantize=["MatMul", "Gemm"])
    rng = np.random.default_rng(0)
    pictures = nncf.Dataset([rng.standard_normal((1, 3, 224, 224), np.float32) for _ in range(8)])
    tower = openvino.convert_model(folder / "visual.onnx", input=[1, 3, 224, 224])
    quantised = nncf.quantize(tower, pictures, model_type=nncf.ModelType.TRANSFORMER, subset_size=8)
    openvino.save_model(quantised, folder / "visual_int8_openvino.xml", compress_to_fp16=False)


def main(folder):
    folder.mkdir(parents=True, exist_ok=True)
    model, config = build()
    export(Image(model), torch.zeros(1, 3, 224, 224), folder / "visual.onnx", "pixel_values", {0: "batch"}, "image_embeds")
    quantise_for_others(folder)
    # Where faster-clip looks for what it would download.
    model.save_pretrained(folder / "faster-clip/sentence-transformers__clip-ViT-B-32/0_CLIPModel")
    export(Text(model), torch.full((1, 77), 49407), folder / "textual.onnx", "input_ids", {0: "batch"}, "text_embeds")
    tokenizer().save(str(folder / "tokenizer.json"))
    described = dict(name="vit-b-32-random", logit_scale=100.0, **config.to_dict())
    (folder / "config.json").write_text(json.dumps(described, indent=2, default=str) + "\n")
    preprocessor = dict(do_resize=True, size=224, resample=3, do_center_crop=True, crop_size=224, do_normalize=True, image_mean=MEAN,
                        image_std=STD)
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor, indent=2) + "\n")
    print({file.name: file.stat().st_size for file in sorted(folder.iterdir())})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
