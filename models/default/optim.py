"""Muon for matrices and convolutions, AdamW for the rest, and the moving average of the weights."""

import copy

import torch


def orthogonal(g, steps=5):
    """The nearest matrices with all singular values about one (Newton-Schulz, coefficients of Muon): [matrices, rows, columns]."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = g.bfloat16()
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.mT if tall else x).float()


class Muon(torch.optim.Optimizer):
    """Momentum made orthogonal; a convolution counts as a matrix of its filters. Rates are those of AdamW."""

    def __init__(self, weights, lr, momentum=0.95, weight_decay=0.05):
        super().__init__(weights, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            alike = {}  # matrices of one size go through together
            for weight in group["params"]:
                state = self.state[weight]
                if "velocity" not in state:
                    state["velocity"] = torch.zeros_like(weight)
                velocity = state["velocity"].lerp_(weight.grad, 1 - group["momentum"])
                update = weight.grad.lerp(velocity, group["momentum"]).flatten(1)
                alike.setdefault(update.shape, []).append((weight, update))
            for shape, pairs in alike.items():
                for (weight, _), update in zip(pairs, orthogonal(torch.stack([update for _, update in pairs]))):
                    weight.mul_(1 - group["lr"] * group["weight_decay"])
                    weight.sub_(update.view_as(weight) * (group["lr"] * 0.2 * max(shape) ** 0.5))


def optimisers(named, lr, decay=0.05):
    """[Muon, AdamW] for the (name, weight) pairs; `lr` is a number, or a tensor that the caller changes (a CUDA graph reads it anew each time)."""
    matrices, decayed, rest = [], [], []
    for name, weight in named:
        inner = weight.dim() == 4 and weight.shape[1] > 3 or weight.dim() == 2 and "blocks" in name
        plain = weight.dim() > 1 and "embedding" not in name
        (matrices if inner else decayed if plain else rest).append(weight)
    groups = [{"params": decayed, "weight_decay": decay}, {"params": rest, "weight_decay": 0.0}]
    return [Muon(matrices, lr=lr, weight_decay=decay), torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98), capturable=torch.is_tensor(lr) and lr.is_cuda)]


def descend(optims, weights, rate=None):
    """One step of each optimiser, at a new rate if one is given, along gradients of length 5 at most, which are then forgotten."""
    torch.nn.utils.clip_grad_norm_(weights, 5.0)
    for optim in optims:
        for group in optim.param_groups if rate is not None else ():
            group["lr"] = rate
        optim.step()
        optim.zero_grad()


class Average:
    """The moving average of a module's weights and statistics."""

    def __init__(self, module, decay=0.999):
        self.module, self.decay, self.steps = copy.deepcopy(module).requires_grad_(False), decay, 0
        self.share = torch.ones((), device=next(module.parameters()).device)  # of the newest weights; a tensor, as a CUDA graph reads it

    def update(self, module):
        self.count()
        self.follow(module)

    def count(self):
        self.steps += 1
        self.share.fill_(1 - min(self.decay, self.steps / (self.steps + 10)))

    @torch.no_grad()
    def follow(self, module):
        ours, theirs = (list(m.state_dict().values()) for m in (self.module, module))
        floats = [k for k, value in enumerate(ours) if value.is_floating_point()]
        way = torch._foreach_sub([theirs[k] for k in floats], [ours[k] for k in floats])
        torch._foreach_mul_(way, self.share)
        torch._foreach_add_([ours[k] for k in floats], way)
        for k in set(range(len(ours))) - set(floats):
            ours[k].copy_(theirs[k])
