"""Trains the model that ships with Forebay and writes its folder.

The demo model lets anyone rehearse the serving stack on a laptop, with no
download: it is a real Llama-architecture chat model that a stock vLLM loads,
small enough to live in the repository. Its answers look like English; they are
not to be relied on.

On one idle CPU core it takes about a quarter of an hour. The text comes from Debian
packages, which must be installed first:

    apt-get install wordnet-base python3-doc
    python tools/train_demo_model.py --out src/forebay/demo_model
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import random
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from string import Template

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM

from demo_text import Conversation, conversations

VOCAB_SIZE = 4096
CONTEXT = 16384
END, PAD = "<|end|>", "<|pad|>"
ROLES = ("system", "user", "assistant", "tool")
SPECIALS = [END, PAD, *(f"<|{role}|>" for role in ROLES)]

# One marker per turn, then the text, then <|end|>. A role the model was not trained
# on reads as the nearest one it was; content may be a string, parts, or nothing.
CHAT_TEMPLATE = """\
{%- for message in messages -%}
{%- set role = {'developer': 'system', 'function': 'tool'}.get(message.role, message.role) -%}
{{- '<|' + (role if role in ['system', 'assistant', 'tool'] else 'user') + '|>' -}}
{%- if message.content is string -%}
{{- message.content -}}
{%- elif message.content -%}
{%- for part in message.content if part.type == 'text' -%}
{{- part.text -}}
{%- endfor -%}
{%- endif -%}
{{- '<|end|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|assistant|>' -}}
{%- endif -%}
"""

# Conversations are short, and so are most sequences: attention costs least there. Every
# eighth step sees as many tokens in one long sequence, so that distance is no surprise.
STEP_TOKENS = 2048
SHORT, LONG, LONG_EVERY = 256, 2048, 8
DISTANCES = [0, 2048, 4096, 8192, CONTEXT]

# What decides the weights. The card's command names each of them.
NUMBERS: list[tuple[str, type, float, str]] = [
    ("steps", int, 1000, "steps of 2048 tokens"),
    ("rate", float, 6e-3, "peak learning rate"),
    ("seed", int, 0, "seeds the text, the weights and the order"),
    ("threads", int, 1, "CPU threads; a second one gained a sixth"),
]

CARD = Path(__file__).with_name("demo_model_card.md")


@dataclass(frozen=True)
class Data:
    """Token streams: conversations end to end, packed into sequences when drawn."""

    train: torch.Tensor
    held_out: torch.Tensor


# --- Tokenizer -------------------------------------------------------------------


def train_tokenizer(texts: Iterable[str]) -> Tokenizer:
    """A byte-level BPE: every byte has a token, so any UTF-8 text round-trips."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=SPECIALS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def render(item: Conversation) -> str:
    """What the chat template makes of a conversation."""
    return "".join(f"<|{role}|>{text}{END}" for role, text in item.turns)


def encode(tokenizer: Tokenizer, items: Iterable[Conversation]) -> torch.Tensor:
    encodings = tokenizer.encode_batch_fast([render(item) for item in items])
    return torch.tensor([token for encoding in encodings for token in encoding.ids])


# --- Model -----------------------------------------------------------------------


def build_config() -> LlamaConfig:
    """About five million parameters; head_dim 64 is one that vLLM's CPU backend has."""
    return LlamaConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=5,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=64,
        max_position_embeddings=CONTEXT,
        rope_parameters={"rope_type": "default", "rope_theta": 100_000.0},
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=SPECIALS.index(END),
        pad_token_id=SPECIALS.index(PAD),
    )


def build_model() -> LlamaForCausalLM:
    model = LlamaForCausalLM(build_config())
    for name, weight in model.named_parameters():
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            torch.nn.init.zeros_(weight)  # each layer starts as the identity
    return model


def loss_of(model: LlamaForCausalLM, batch: torch.Tensor) -> torch.Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(input_ids=batch[:, :-1]).logits
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), batch[:, 1:].flatten())


@torch.no_grad()
def held_out_loss(model: LlamaForCausalLM, stream: torch.Tensor, length: int = 512) -> float:
    """Mean nats per token over the whole held-out stream."""
    windows = stream[: len(stream) // (length + 1) * (length + 1)].view(-1, length + 1)
    losses = [loss_of(model, part).item() * len(part) for part in windows.split(16)]
    return sum(losses) / len(windows)


@torch.no_grad()
def distance_losses(model: LlamaForCausalLM, stream: torch.Tensor) -> list[float]:
    """Mean nats per token between successive `DISTANCES`, over windows as long as the last."""
    windows = stream[: len(stream) // DISTANCES[-1] * DISTANCES[-1]].view(-1, DISTANCES[-1])
    sums = [0.0] * (len(DISTANCES) - 1)
    for window in windows:
        hidden = model.model(input_ids=window[None]).last_hidden_state[0]
        for at, (start, stop) in enumerate(itertools.pairwise(DISTANCES)):
            logits = model.lm_head(hidden[start : stop - 1])
            sums[at] += torch.nn.functional.cross_entropy(logits, window[start + 1 : stop]).item()
    return [total / len(windows) for total in sums]


def describe_distances(losses: list[float]) -> str:
    """Such as "2.94 up to 2,048, then 3.08 up to 4,096"."""
    parts = [f"{loss:.2f} up to {stop:,}" for loss, stop in zip(losses, DISTANCES[1:], strict=True)]
    return ", then ".join(parts)


# --- Training --------------------------------------------------------------------


def batches(stream: torch.Tensor, length: int, draw: torch.Generator) -> Iterator[torch.Tensor]:
    """Batches without end; each pass over the stream is cut and shuffled anew."""
    rows = STEP_TOKENS // length
    while True:
        start = int(torch.randint(length, (1,), generator=draw))
        count = (len(stream) - start) // (length + 1)
        windows = stream[start : start + count * (length + 1)].view(count, -1)
        order = torch.randperm(count, generator=draw)
        for chosen in order[: count // rows * rows].view(-1, rows):
            yield windows[chosen]


def optimizers(model: LlamaForCausalLM, rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the layers' matrices, AdamW for the embedding and the norms."""
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    rest = [p for n, p in model.named_parameters() if p.ndim != 2 or "embed" in n]
    return [
        torch.optim.Muon(matrices, lr=rate, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=rate, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def schedule(total: int, warmup: int = 30) -> Callable[[int], float]:
    """Linear warm-up, then a cosine down to a fiftieth."""

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        done = (step - warmup) / max(1, total - warmup)
        return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))

    return factor


def train(model: LlamaForCausalLM, stream: torch.Tensor, args: argparse.Namespace) -> None:
    draw = torch.Generator().manual_seed(args.seed)
    short, long = batches(stream, SHORT, draw), batches(stream, LONG, draw)
    steppers = optimizers(model, args.rate)
    schedulers = [torch.optim.lr_scheduler.LambdaLR(o, schedule(args.steps)) for o in steppers]
    started = time.monotonic()
    for step in range(args.steps):
        loss = loss_of(model, next(long if step % LONG_EVERY == LONG_EVERY - 1 else short))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for stepper, scheduler in zip(steppers, schedulers, strict=True):
            stepper.step()
            stepper.zero_grad()
            scheduler.step()
        if step % 50 == 0:
            spent = time.monotonic() - started
            print(f"step {step}/{args.steps}  loss {loss.item():.3f}  {spent:.0f} s", flush=True)


# --- The folder ------------------------------------------------------------------


def write_folder(out: Path, tokenizer: Tokenizer, model: LlamaForCausalLM) -> int:
    """Writes what a server reads; returns the parameter count."""
    out.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(out / "tokenizer.json"), pretty=False)
    _write_json(out / "tokenizer_config.json", _tokenizer_config())
    _write_json(out / "config.json", _model_config(model.config))
    _write_json(out / "generation_config.json", _generation_config())
    weights = {
        name: weight.detach().to(torch.bfloat16).contiguous()
        for name, weight in model.named_parameters()
    }
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
    (out / "model.safetensors").chmod(0o644)  # safetensors writes it for the owner alone
    return sum(weight.numel() for weight in weights.values())


def _write_json(path: Path, content: dict[str, object]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _tokenizer_config() -> dict[str, object]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": END,
        "pad_token": PAD,
        "model_max_length": CONTEXT,
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }


def _model_config(config: LlamaConfig) -> dict[str, object]:
    content: dict[str, object] = config.to_diff_dict()
    content |= {"architectures": ["LlamaForCausalLM"], "dtype": "bfloat16"}
    content.pop("transformers_version", None)
    return content


def _generation_config() -> dict[str, object]:
    return {
        "eos_token_id": SPECIALS.index(END),
        "pad_token_id": SPECIALS.index(PAD),
        "do_sample": True,
        "temperature": 0.7,
        "top_p": 0.9,
    }


def write_card(out: Path, facts: dict[str, str]) -> None:
    card = Template(CARD.read_text(encoding="utf-8")).substitute(facts)
    (out / "README.md").write_text(card, encoding="utf-8")


# --- The command -----------------------------------------------------------------


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="model folder; its files are replaced"
    )
    parser.add_argument(
        "--root", type=Path, default=Path("/"), help="where the packages are unpacked (default: /)"
    )
    for name, kind, default, text in NUMBERS:
        parser.add_argument(
            f"--{name}", type=kind, default=default, help=f"{text} (default: {default})"
        )
    return parser.parse_args()


def command_of(args: argparse.Namespace) -> str:
    """The command that repeats this run from the repository's root."""
    choices = [f"--{name} {getattr(args, name)}" for name, *_ in NUMBERS]
    return " \\\n    ".join(
        ["python tools/train_demo_model.py --out src/forebay/demo_model", " ".join(choices)]
    )


def main() -> None:
    args = parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    items = conversations(args.root, random.Random(args.seed))
    train_items = [item for item in items if not item.held_out]
    tokenizer = train_tokenizer(text for item in train_items for _, text in item.turns)
    data = Data(
        train=encode(tokenizer, train_items),
        held_out=encode(tokenizer, (item for item in items if item.held_out)),
    )
    print(f"tokens: {len(data.train):,} to train on, {len(data.held_out):,} held out", flush=True)
    model = build_model()
    train(model, data.train, args)
    loss = held_out_loss(model, data.held_out)
    parameters = write_folder(args.out, tokenizer, model)
    facts = {
        "command": command_of(args),
        "parameters": f"{parameters:,}",
        "train_tokens": f"{len(data.train):,}",
        "seen_tokens": f"{args.steps * STEP_TOKENS:,}",
        "held_out_tokens": f"{len(data.held_out):,}",
        "held_out_loss": f"{loss:.3f}",
        "distance_losses": describe_distances(distance_losses(model, data.held_out)),
        "perplexity": f"{math.exp(loss):.1f}",
        "steps": f"{args.steps:,}",
    }
    write_card(args.out, facts)
    print(f"held-out loss {loss:.3f} nats per token; {parameters:,} parameters; wrote {args.out}")


if __name__ == "__main__":
    main()
