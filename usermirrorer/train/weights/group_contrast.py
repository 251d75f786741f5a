"""SFT with a second question about every group: not only which option a person takes, but who takes an option.

The probabilities that the members of a group give to each other's options are a matrix, people by options, whose
diagonal is what happened. SFT is the softmax over each row; the contrast adds the softmax over each column, as CLIP
(arXiv 2103.00020, section 2.3) matches images and texts both ways. A model that does not look at the person gives all
rows alike and gains nothing from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from trl import SFTTrainer

from usermirrorer.llm.labels import label_tokens
from usermirrorer.llm.prompts import LABELS
from usermirrorer.train.input.groups import batch_by_group


class GroupContrastTrainer(SFTTrainer):
    """TRL's SFT trainer plus `weight` times the contrast; `groups` has a number for each row of `train_dataset`."""

    train_dataset: Any
    data_collator: Any
    _signature_columns: Any

    def __init__(self, *args: Any, groups: Sequence[int], weight: float, **options: Any) -> None:
        super().__init__(*args, **options)
        self.weight = weight
        self.train_dataset = self.train_dataset.add_column("group", list(groups))
        encode = lambda texts: self.processing_class(texts, add_special_tokens=False)["input_ids"]  # noqa: E731
        self.labels = torch.tensor(label_tokens(encode, LABELS, str(self.processing_class.name_or_path)))
        self.read: list[torch.Tensor] = []
        base = self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model
        self.head = base.get_output_embeddings()
        getattr(base, base.base_model_prefix).register_forward_hook(self._keep_states)
        collate = self.data_collator
        self.data_collator = lambda rows: _with_groups(collate, rows)
        batch_by_group(self, groups)

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """TRL's loss, and the contrast at the places of the labels."""
        groups, input_ids, labels = inputs.pop("group"), inputs["input_ids"], inputs["labels"]
        self.read.clear()
        loss, outputs = super().compute_loss(model, inputs, return_outputs=True, num_items_in_batch=num_items_in_batch)
        contrast = self._contrast(self.read[-1], input_ids, labels, groups)
        self._metrics["train"]["contrast"].append(float(contrast.detach()))
        # The trainer divides by the accumulated batches only a loss that is not a mean over their tokens already.
        share = self.current_gradient_accumulation_steps if num_items_in_batch is not None else 1
        loss = loss + self.weight * contrast / share
        return (loss, outputs) if return_outputs else loss

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        self._signature_columns = list(dict.fromkeys([*self._signature_columns, "group"]))

    def _keep_states(self, module: Any, given: Any, output: Any) -> None:
        self.read.append(output.last_hidden_state)

    def _contrast(
        self, states: torch.Tensor, input_ids: torch.Tensor, labels: torch.Tensor, groups: torch.Tensor
    ) -> torch.Tensor:
        """`contrast_of` at the labels of a batch: `states` are `(rows, tokens, width)`, the rest `(rows, tokens)`."""
        allowed = self.labels.to(input_ids.device)
        answered = torch.isin(input_ids, allowed) & (labels != -100)
        place = answered.shape[1] - 1 - answered.flip(1).int().argmax(1)  # the last label of the answer
        rows = torch.arange(len(input_ids), device=input_ids.device)
        logits = self.head(states[rows, place - 1]).float()
        taken = input_ids[rows, place]
        return contrast_of(logits.log_softmax(1)[:, taken], groups)


def contrast_of(logs: torch.Tensor, groups: torch.Tensor) -> torch.Tensor:
    """Mean of −log of the share that each option's taker has of its probability over the members; 0 without mates.

    `logs` has the log-probability that each person gives to the option that each person took, `(people, people)`.
    """
    same = groups[:, None] == groups[None, :]
    mates = same.sum(0) > 1
    who = logs.masked_fill(~same, -torch.inf).log_softmax(0).diagonal()
    return -who[mates].mean() if mates.any() else logs.sum() * 0


def _with_groups(collate: Any, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """A batch with the `group` of each row, which TRL's collator would leave out."""
    groups = torch.tensor([row["group"] for row in rows])
    return {
        **collate([{name: value for name, value in row.items() if name != "group"} for row in rows]),
        "group": groups,
    }
