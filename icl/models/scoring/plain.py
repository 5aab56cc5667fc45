"""`PlainBackbone`: a decoder without packing; each distinct sequence through the model, once.

The road of decoders whose attention cannot be packed (ALiBi, state spaces). Slow and exact: no
padding, so that scores do not depend on batch composition. Answers of one token share their prompt.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from icl.models.backbone import Backbone
from icl.models.base import DECODER
from icl.models.packed.trie import IntArray
from icl.models.parts import stream
from icl.models.tokens import encode_pairs


class PlainBackbone(Backbone):
    """A causal language model whose attention cannot be packed: it takes no adapters."""

    can = DECODER - {"adapt"}
    kind = "a decoder that cannot be run packed"
    packed = False

    @torch.no_grad()
    def score(self, prompts: Sequence[str], answers: Sequence[str]) -> Tensor:
        """Return ``log p(answer | prompt)``, float32, shape (prompts, answers)."""
        scores = torch.zeros(len(prompts), len(answers), device=self.device)
        end = None if self.spans else -1  # the last token is not read, but its place may count
        for i, row in enumerate(encode_pairs(self.tokenizer, prompts, answers)):
            by_context: dict[bytes, list[int]] = {}
            for j, pair in enumerate(row):
                by_context.setdefault(pair.tokens[:-1].tobytes(), []).append(j)
                self.meter.prompt_tokens += len(pair.tokens) - 1
            for columns in by_context.values():
                context = torch.from_numpy(row[columns[0]].tokens[:end])[None].to(self.device)
                first = min(row[j].answer_from for j in columns) - 1
                log_probs = self.model(input_ids=context).logits[0, first:].float().log_softmax(-1)
                self.meter.computed_tokens += context.shape[1]
                for j in columns:
                    begin = row[j].answer_from
                    targets = torch.from_numpy(row[j].tokens[begin:]).to(self.device)
                    rows = log_probs[begin - 1 - first :][: len(targets)]
                    scores[i, j] = rows.gather(1, targets[:, None]).sum()
        return scores

    @torch.no_grad()
    def token_states(self, rows: Sequence[IntArray], layer: int = -1) -> list[Tensor]:
        """Return each encoded text's states after `layer` layers: (tokens, width) each."""
        inner, found = layer not in (-1, self.depth), []
        for row in rows:
            self.meter.computed_tokens += len(row)
            tokens = torch.from_numpy(row)[None].to(self.device)
            out = self.text(input_ids=tokens, use_cache=False, output_hidden_states=inner)
            found.append(stream(out.hidden_states[layer] if inner else out.last_hidden_state)[0])
        return found
