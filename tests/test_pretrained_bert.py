"""BERT and its kin in our Transformer: states, losses and gradients are those of transformers."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from foreign import of_gradients
from tiny import fit

from lmtasks.backbones.lora import LoRA
from lmtasks.backbones.transformer import Transformer
from lmtasks.batch import Batch
from lmtasks.data.readers.table import Table
from lmtasks.errors import InputError
from lmtasks.heads.classification import ClassificationHead
from lmtasks.model import Model
from lmtasks.pretrained.folder import Folder
from lmtasks.pretrained.pretrained import Pretrained, find_family
from lmtasks.storage.model_folder import load, save
from lmtasks.tasks.answering import SpanAnsweringTask
from lmtasks.tasks.classification import ClassificationTask
from lmtasks.tasks.tagging import TaggingTask
from lmtasks.tasks.translation import TranslationTask
from lmtasks.training.config import Training
from lmtasks.training.datamodule import TextDataModule
from lmtasks.training.module import TaskModule

transformers = pytest.importorskip("transformers")

WORDS = ("the", "old", "dog", "sleep", "##s", "anna", "has", "a", "cat", "who", "?", ".", "not")
LENGTHS = (7, 12, 1, 4)
LORA = Training(lora=LoRA(rank=2))
BERT = {"hidden_size": 24, "num_attention_heads": 3, "intermediate_size": 40, "num_hidden_layers": 3}
DISTILBERT = {"dim": 24, "n_heads": 3, "hidden_dim": 40, "n_layers": 3}
MODELS = {
    "bert": ("bert", BERT),
    "one segment, another activation": ("bert", BERT | {"type_vocab_size": 1, "hidden_act": "relu"}),
    "another epsilon, approximate gelu": ("bert", BERT | {"layer_norm_eps": 1e-3, "hidden_act": "gelu_new"}),
    "roberta": ("roberta", BERT | {"type_vocab_size": 1, "max_position_embeddings": 40, "pad_token_id": 1}),
    "xlm-roberta": ("xlm-roberta", BERT | {"type_vocab_size": 1, "max_position_embeddings": 40, "pad_token_id": 1}),
    "distilbert": ("distilbert", DISTILBERT),
    "distilbert of silu": ("distilbert", DISTILBERT | {"activation": "silu", "n_heads": 4}),
}


def write_words(folder):
    """Write the vocabulary of a BERT: 0 padding, 1 unknown, 2 CLS, 3 SEP, 4 mask, then the words."""
    (folder / "vocab.txt").write_text("\n".join(("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS)))


def write_letters(folder):
    """Write the vocabulary of a RoBERTa: 0 start, 1 padding, 2 end, 3 unknown, 4 mask, then letters; no merges."""
    names = ("<s>", "<pad>", "</s>", "<unk>", "<mask>", *"Ġabcdefghijklmnopqrstuvwxyz.?")
    (folder / "vocab.json").write_text(json.dumps({name: i for i, name in enumerate(names)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")


def write_model(folder, model_type="bert", settings=BERT, kind=transformers.AutoModel):
    """Write a random model, of which every weight counts, and return it."""
    torch.manual_seed(1)
    given = {"vocab_size": 34, "max_position_embeddings": 38} | settings
    model = kind.from_config(transformers.AutoConfig.for_model(model_type, **given)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.2 + ("norm" in name.lower() and name.endswith("weight")))
    model.save_pretrained(folder)
    (write_letters if "roberta" in model_type else write_words)(folder)
    return model


def sources(begin=5, vocab_size=34, pad=0):
    """Return padded random ids (B, S) and their mask."""
    draw = torch.Generator().manual_seed(2)
    mask = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
    return torch.randint(begin, vocab_size, mask.shape, generator=draw).masked_fill(~mask, pad), mask


@pytest.fixture
def folder(tmp_path):
    """The folder of a BERT."""
    folder = tmp_path / "bert"
    write_model(folder)
    return folder


def built(folder, **settings) -> Transformer:
    """Return the backbone in a folder, without dropout."""
    config, origin = Pretrained(str(folder), **settings).resolve()
    backbone = config.build(len(origin.tokenizer((), ())))
    origin.initialise(backbone, config, origin.tokenizer((), ()))
    return backbone.eval()


@pytest.mark.parametrize("name", MODELS)
def test_states_and_gradients_are_those_of_transformers(tmp_path, name):
    theirs = write_model(tmp_path, *MODELS[name])
    ours = built(tmp_path)
    ids, mask = sources(pad=theirs.config.pad_token_id)
    expected = theirs(input_ids=ids, attention_mask=mask.long()).last_hidden_state  # (B, S, D)
    found = ours.encode(ids, mask).states
    torch.testing.assert_close(found[mask], expected[mask], atol=1e-5, rtol=1e-5)
    for states in (found, expected):
        (states[mask] ** 3).sum().backward()
    gradients = {each: parameter.grad for each, parameter in theirs.named_parameters()}
    family = find_family(Folder(str(tmp_path)))
    for each, gradient in family.table().names(of_gradients(ours)):
        torch.testing.assert_close(
            gradient, gradients[each], atol=1e-4, rtol=1e-4, msg=lambda text, n=each: f"{n}: {text}"
        )


def test_fifty_steps_of_fine_tuning_have_the_losses_of_transformers(tmp_path):
    off = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    theirs = write_model(tmp_path, settings=BERT | off).train()
    ours = built(tmp_path).train()
    head = ClassificationHead(24, 3, dropout=0.0)
    output = copy.deepcopy(head.output)
    sides = [torch.nn.ModuleList([ours, head]), torch.nn.ModuleList([theirs, output])]
    optimizers = [torch.optim.AdamW(side.parameters(), 1e-3) for side in sides]
    ids, mask = sources()
    draw, first = torch.Generator().manual_seed(3), []
    for _ in range(50):
        classes = torch.randint(3, (len(ids), 1), generator=draw)
        found = head.loss(ours, Batch("mood", ids, mask, classes, torch.arange(len(ids))))
        states = theirs(ids, mask.long()).last_hidden_state
        pooled = (states * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True)
        losses = [found.total / found.count, torch.nn.functional.cross_entropy(output(pooled), classes[:, 0])]
        for loss, optimizer in zip(losses, optimizers, strict=True):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        first.append(float(losses[0]))
        assert float(losses[0]) == pytest.approx(float(losses[1]), abs=1e-3)
    assert len(set(first)) == 50  # it has trained


def test_the_second_text_has_the_second_segment(folder):
    theirs = transformers.AutoModel.from_pretrained(folder)
    ids = torch.tensor([[2, 5, 6, 7, 3, 9, 10, 3], [2, 5, 3, 6, 7, 8, 3, 0]])
    segments = torch.tensor([[0, 0, 0, 0, 0, 1, 1, 1], [0, 0, 0, 1, 1, 1, 1, 1]])
    expected = theirs(ids, (ids > 0).long(), segments).last_hidden_state
    found = built(folder).encode(ids, ids > 0).states
    torch.testing.assert_close(found[ids > 0], expected[ids > 0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["bert", "roberta"])
def test_texts_and_pairs_are_framed_as_by_the_tokenizer_of_transformers(tmp_path, name):
    write_model(tmp_path, *MODELS[name])
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    ours = find_family(Folder(str(tmp_path))).tokenizer()
    texts = ["the old dog sleeps.", "who has a cat?", "", "Änna ☃"]
    ids = ours.encode_batch(texts)
    assert [ours.frame_source(row) for row in ids] == theirs(texts)["input_ids"]
    assert ours.frame_source(*ids[:2]) == theirs(*texts[:2])["input_ids"]


def test_a_checkpoint_with_a_layer_on_top_and_the_names_of_tensorflow_is_read(tmp_path):
    model = write_model(tmp_path, kind=transformers.AutoModelForSequenceClassification)
    from safetensors.torch import load_file, save_file

    weights = load_file(tmp_path / "model.safetensors")
    old = {name.replace("LayerNorm.weight", "LayerNorm.gamma"): tensor for name, tensor in weights.items()}
    save_file(old, tmp_path / "model.safetensors")
    ids, mask = sources()
    expected = model.bert(ids, mask.long()).last_hidden_state
    torch.testing.assert_close(built(tmp_path).encode(ids, mask).states[mask], expected[mask], atol=1e-5, rtol=1e-5)


def test_shards_and_bin_files_are_read_as_one_file_is(folder):
    ids, mask = sources()
    expected = built(folder).encode(ids, mask).states
    model = transformers.AutoModel.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="10KB")
    assert len([*folder.glob("model-*.safetensors")]) > 1
    assert torch.equal(built(folder).encode(ids, mask).states, expected)
    for path in folder.glob("model*"):
        path.unlink()
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    assert torch.equal(built(folder).encode(ids, mask).states, expected)


def test_the_first_layers_alone_are_those_of_the_whole_encoder(folder):
    theirs = transformers.AutoModel.from_pretrained(folder)
    ids, mask = sources()
    expected = theirs(ids, mask.long(), output_hidden_states=True).hidden_states[2]
    found = built(folder, encoder_layers=2).encode(ids, mask).states
    torch.testing.assert_close(found[mask], expected[mask], atol=1e-5, rtol=1e-5)
    with pytest.raises(InputError, match=r"encoder_layers 4: the pretrained model has 3; -1 takes all of them"):
        built(folder, encoder_layers=4)


def test_added_tokens_get_the_mean_of_the_embeddings_and_are_saved(folder, tmp_path):
    module = TaskModule({"names": TaggingTask(labels=("PER",), case_marks=True)}, Pretrained(str(folder)))
    module.train_tokenizer([], tmp_path)
    module.configure_model()
    backbone, tokenizer = module.built()
    own = 5 + len(WORDS)
    assert len(tokenizer) == own + 2
    torch.testing.assert_close(backbone.embedding.weight[own], backbone.embedding.weight[:own].mean(0))
    again = load(save(module, tmp_path / "saved"))
    assert again.tokenizer is not None
    assert again.tokenizer.mark("<capital>") == own
    assert torch.equal(again.built()[0].embedding.weight, backbone.embedding.weight)


def test_every_task_that_reads_trains_on_an_encoder_and_its_model_needs_no_more_of_the_folder(folder, tmp_path):
    rows = [{"text": "the old dog sleeps.", "label": "dull"}, {"text": "anna has a cat.", "label": "fine"}] * 6
    for split in ("train", "validation"):
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    module = TaskModule({"mood": ClassificationTask()}, Pretrained(str(folder), dropout=0.0))
    table = Table(train=str(tmp_path / "train.jsonl"), validation=str(tmp_path / "validation.jsonl"))
    fit(tmp_path, module, TextDataModule(table, tokens_per_step=60, max_length=30, cache=str(tmp_path / "cache")))
    expected = module.eval().probabilities("the cat sleeps.")
    saved = save(module, tmp_path / "saved")
    for path in folder.glob("*.*"):
        path.unlink()
    assert load(saved).probabilities("the cat sleeps.") == pytest.approx(expected)


def test_answers_and_names_are_found_in_the_raw_text(folder):
    tasks = {"answer": SpanAnsweringTask(window=30), "names": TaggingTask(labels=("PER",), writing=("letters",))}
    model = Model(tasks, Pretrained(str(folder)))
    model.build()
    rows = [{"question": "Who has a cat?", "context": "  ÀNNA has\ta cat."}]
    for answers in (model.solve(rows, "answer"), model.solve([{"text": "Who? ÀNNA  has a CAT."}], "names")):
        for span in answers[0][0].spans:
            text = rows[0]["context"] if answers[0][0].labels is None else "Who? ÀNNA  has a CAT."
            assert text[span.start : span.stop] == span.text


def test_a_new_decoder_over_an_encoder_learns_to_write(folder, tmp_path):
    module = TaskModule({"translation": TranslationTask(("en-de", "en-fr"))}, Pretrained(str(folder), decoder_layers=1))
    module.train_tokenizer([], tmp_path)
    module.configure_model()
    backbone, tokenizer = module.built()
    examples = module.task.examples([{"en": "the dog", "de": "the cat", "fr": "who"}], tokenizer)
    assert tokenizer.pieces(examples[0].source) == ["[CLS]", "<2de>", "the", "dog", "[SEP]"]
    batch = Batch.of("translation", examples, tokenizer.pad_id)
    losses = []
    optimizer = torch.optim.Adam(module.parameters(), 0.01)
    for _ in range(30):
        loss = module.heads["translation"].loss(backbone, batch)
        losses.append(float(loss.nll / loss.count))
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
    assert losses[-1] < 0.5 * losses[0]


def test_a_question_that_spells_the_separator_is_one_question(folder):
    model = Model({"answer": SpanAnsweringTask(window=30)}, Pretrained(str(folder)))
    model.build()
    (answers,) = model.solve([{"question": "who [SEP] has a cat?", "context": "anna has a cat."}])
    assert all(0 <= span.start < span.stop <= 15 for answer in answers for span in answer.spans)
    (example,) = model.tasks["answer"].questions([{"question": "[SEP]who", "context": "anna"}], model.built()[1])
    assert example.source.count(3) == 2


def test_lora_is_refused_where_the_decoder_is_new(folder):
    with pytest.raises(InputError, match="its decoder is new; leave lora out"):
        TaskModule({"translation": TranslationTask()}, Pretrained(str(folder), decoder_layers=1), training=LORA)


def test_a_model_folder_is_never_written_over_the_model_that_it_was_read_from(folder):
    model = Model({"mood": ClassificationTask(labels=("a", "b"))}, Pretrained(str(folder)))
    model.build()
    before = {path.name: path.read_bytes() for path in folder.glob("*")}
    with pytest.raises(InputError, match="is no model folder, and a model would take its place"):
        save(model, folder)
    assert before == {path.name: path.read_bytes() for path in folder.glob("*")}
