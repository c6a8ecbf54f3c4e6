"""The text side of a step of CoOp in PyTorch: every class as 77 tokens with four of them a trained context, through the
frozen text tower of ViT-B/32 and back to the context, as CoOp computes it in every step. Prints a JSON object: for each
number of classes a list of milliseconds, forward and backward together.

    python coop_text.py [--threads 1] [--repeats 3] [--classes 10 100]
"""
import argparse
import json
import time

import torch
from make_models import build

LENGTH, CONTEXT = 77, 4

arguments = argparse.ArgumentParser()
arguments.add_argument("--threads", type=int, default=1)
arguments.add_argument("--repeats", type=int, default=3)
arguments.add_argument("--classes", type=int, nargs="+", default=[10, 100])
arguments = arguments.parse_args()
torch.set_num_threads(arguments.threads)
model = build()[0]
model.requires_grad_(False)
text, projection = model.text_model, model.text_projection


def step(embedded, ends, context, labels, images):
    """Forward to the loss and backward to the context."""
    rows = torch.cat([embedded[:, :1], context.expand(len(embedded), -1, -1), embedded[:, 1 + CONTEXT:]], dim=1)
    rows = rows + text.embeddings.position_embedding.weight[:LENGTH]
    hidden = text.encoder(inputs_embeds=rows, attention_mask=None, is_causal=True).last_hidden_state
    features = projection(text.final_layer_norm(hidden)[torch.arange(len(ends)), ends])
    features = features / features.norm(dim=-1, keepdim=True)
    loss = torch.nn.functional.cross_entropy(100 * images @ features.T, labels)
    loss.backward()
    return context.grad


times = {}
for classes in arguments.classes:
    torch.manual_seed(classes)
    # Start token, context, a name of one to three tokens, a full stop, end token, padding.
    ends = torch.tensor([1 + CONTEXT + 1 + index % 3 + 1 for index in range(classes)])
    ids = torch.randint(1000, 40000, (classes, LENGTH))
    ids[torch.arange(LENGTH) >= ends[:, None]] = 49407
    embedded = text.embeddings.token_embedding(ids)
    context = torch.nn.Parameter(embedded[0, 1:1 + CONTEXT].clone())
    images = torch.nn.functional.normalize(torch.randn(32, model.config.projection_dim), dim=-1)
    labels = torch.randint(classes, (32,))
    assert step(embedded, ends, context, labels, images).abs().sum() > 0
    times[classes] = []
    for _ in range(arguments.repeats):
        context.grad = None
        start = time.perf_counter()
        step(embedded, ends, context, labels, images)
        times[classes].append(1e3 * (time.perf_counter() - start))
print(json.dumps(times))
