"""`transformers.Trainer` as it is, stopped between slices, on the batches that we train on."""

import queue
import threading
import time

import inputs
import torch
import transformers
from ours import counted


class Theirs:
    """Trains a slice of steps at a time; the trainer runs in a thread of its own, and waits in a callback.

    Args:
        job: `"reviews"`, `"long"`, `"gpt2"` or `"smollm2"`.
        bfloat16: Whether it computes under autocast.
        device: `"cpu"` or `"gpu"`.
        threads: Number of threads.
    """

    def __init__(self, job, bfloat16, device, threads):
        torch.set_num_threads(threads)
        transformers.utils.logging.set_verbosity_error()
        transformers.set_seed(0)
        self.device = device
        make = _classifier if job in ("reviews", "long") else _language_model
        model, source, convert = make(job)
        self.turns, self.answers = queue.Queue(), queue.Queue()
        options = transformers.TrainingArguments(
            output_dir="/tmp/never_written",
            max_steps=source.num_batches(0) - 1,
            per_device_train_batch_size=1,  # what the data set gives is a batch already
            learning_rate=5e-5,
            weight_decay=0.01,
            bf16=bfloat16,
            use_cpu=device == "cpu",
            logging_strategy="no",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=device == "gpu",
            remove_unused_columns=False,
        )
        trainer = transformers.Trainer(
            model=model,
            args=options,
            train_dataset=_Batches(source, convert),
            data_collator=lambda rows: rows[0],
            callbacks=[_Slices(self.turns, self.answers)],
        )
        self.counts = (
            counted(source.batch(0, n), source.batch(0, n)[1].ndim == 2)
            for n in range(1, options.max_steps + 1)
        )
        threading.Thread(target=trainer.train, daemon=True).start()

    def run(self, steps):
        """Steps, input included: what counts of them (texts, or tokens with a target), and seconds."""
        self.turns.put(steps)
        seconds = self.answers.get()
        return sum(next(self.counts) for _ in range(steps)), seconds

    def peak(self):
        """MiB of the accelerator at most, or `None`."""
        return torch.cuda.max_memory_allocated() / 2**20 if self.device == "gpu" else None


class _Slices(transformers.TrainerCallback):
    """Lets the trainer make as many steps as are asked for, and waits."""

    def __init__(self, turns, answers):
        self.turns, self.answers = turns, answers
        self.left, self.began = 0, 0.0

    def on_train_begin(self, *_, **__):
        self._wait()

    def on_step_end(self, *_, **__):
        self.left -= 1
        if not self.left:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            self.answers.put(time.perf_counter() - self.began)
            self._wait()

    def _wait(self):
        self.left = self.turns.get()
        self.began = time.perf_counter()


class _Batches(torch.utils.data.IterableDataset):
    def __init__(self, source, convert):
        self.source, self.convert = source, convert

    def __iter__(self):
        for number in range(1, self.source.num_batches(0)):
            yield self.convert(*self.source.batch(0, number))


class _MeanPooled(torch.nn.Module):
    """The same head as ours for a checkpoint without a trained pooler."""

    def __init__(self, path):
        super().__init__()
        self.bert = transformers.BertModel.from_pretrained(path, add_pooling_layer=False)
        self.dropout = torch.nn.Dropout(self.bert.config.hidden_dropout_prob)
        self.head = torch.nn.Linear(self.bert.config.hidden_size, 2)

    def forward(self, token_ids, padding_mask, segment_ids, labels):
        hidden = self.bert(token_ids, attention_mask=padding_mask, token_type_ids=segment_ids)[0]
        mask = padding_mask[..., None].to(hidden.dtype)
        logits = self.head(self.dropout((hidden * mask).sum(1) / mask.sum(1)))
        return {"loss": torch.nn.functional.cross_entropy(logits.float(), labels), "logits": logits}


def _classifier(job):
    def convert(fed, targets, _):
        return {
            **{k: torch.from_numpy(v) for k, v in fed.items()},
            "labels": torch.from_numpy(targets).long(),
        }

    return _MeanPooled(inputs.minilm()[1].path), inputs.classification(job), convert


def _language_model(job):
    if job == "gpt2":
        config = transformers.GPT2Config(**inputs.GPT2, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
    else:
        from kerasllm.models.presets import Preset

        config = transformers.LlamaConfig(**Preset.load(inputs.SMOLLM2).config)
    config.use_cache = False
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")

    def convert(fed, targets, weights):
        ids, rows = torch.from_numpy(fed["token_ids"]).long(), torch.from_numpy(fed["padding_mask"])
        same = (rows[:, :, None] == rows[:, None, :]) & torch.ones(ids.shape[1], ids.shape[1]).bool().tril()
        begins = torch.nn.functional.pad(rows[:, 1:] != rows[:, :-1], (1, 0))
        places = torch.arange(ids.shape[1]).expand_as(ids)
        starts = torch.where(begins, places, 0).cummax(1).values
        right = torch.where(torch.from_numpy(weights) > 0, torch.from_numpy(targets).long(), -100)
        return {
            "input_ids": ids,
            "attention_mask": same[:, None],
            "position_ids": places - starts,
            "labels": right,
            "shift_labels": right,
        }

    return model, inputs.language(config.vocab_size), convert
