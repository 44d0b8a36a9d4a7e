"""Heads that others have trained, above the encoders of BERT and its kin: their answers are those of transformers."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
import torch
from test_pretrained_bert import BERT, DISTILBERT, write_letters, write_model

from lmtasks.batch import Batch
from lmtasks.cli.main import main
from lmtasks.decoding import Decoding
from lmtasks.errors import InputError
from lmtasks.pretrained.pretrained import Pretrained
from lmtasks.storage.model_folder import load, save
from lmtasks.text.words import whole_words

transformers = pytest.importorskip("transformers")

FEW = {"type_vocab_size": 1, "max_position_embeddings": 60, "pad_token_id": 1}
KINDS = {
    "bert": ("bert", BERT | {"max_position_embeddings": 58}),
    "roberta": ("roberta", BERT | FEW),
    "xlm-roberta": ("xlm-roberta", BERT | FEW),
    "camembert": ("camembert", BERT | FEW),
    "distilbert": ("distilbert", DISTILBERT | {"max_position_embeddings": 58}),
}
every = pytest.mark.parametrize("kind", KINDS)
BIO = ("B-LOC", "O", "I-PER", "B-PER", "I-LOC")
NLI = ("CONTRADICTION", "NEUTRAL", "ENTAILMENT")
TEXTS = ("the old dog sleeps.", "anna has a cat", "who?", "a cat, a dog: the cat sleeps. not anna!")


def write(folder, kind, head, labels=("LABEL_0", "LABEL_1"), **settings):
    """Write a random model with a head, and return it with its tokenizer."""
    model_type, sizes = KINDS[kind]
    named = {"id2label": dict(enumerate(labels)), "label2id": {label: i for i, label in enumerate(labels)}}
    sizes = sizes | named | settings
    if head == "QuestionAnswering":
        sizes = sizes | {"id2label": {0: "LABEL_0", 1: "LABEL_1"}, "label2id": {"LABEL_0": 0, "LABEL_1": 1}}
    folder.mkdir(exist_ok=True)
    theirs = write_model(folder, model_type, sizes, getattr(transformers, f"AutoModelFor{head}"))
    if model_type in ("bert", "distilbert"):
        return theirs, transformers.AutoTokenizer.from_pretrained(folder)
    write_letters(folder)
    tokenizer = transformers.RobertaTokenizer
    return theirs, tokenizer.from_pretrained(folder, add_prefix_space=head == "TokenClassification")


def set_config(folder, **settings):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


def asked(rows, seed=3):
    """Return rows with a random question and a random context each."""
    draw = random.Random(seed)
    words = ("the", "old", "dog", "sleeps", "anna", "has", "a", "cat", "not")
    return [
        {
            "question": " ".join(draw.choices(words, k=draw.randint(1, 3))) + "?",
            "context": " ".join(draw.choices(words, k=draw.randint(1, 5))) + ".",
        }
        for _ in range(rows)
    ]


def span_of_theirs(theirs, tokenizer, row):
    """Return what transformers finds: (first, last) token and characters, and how much likelier no answer is."""
    from transformers.pipelines.document_question_answering import select_starts_ends

    read = tokenizer(row["question"], row["context"], return_tensors="pt", return_offsets_mapping=True)
    offsets = read.pop("offset_mapping")[0].tolist()
    mask = np.array([[part != 1 for part in read.sequence_ids(0)]])
    mask[0, 0] = False  # the first token stands for no answer
    with torch.no_grad():
        logits = theirs(**read)
    starts, ends, scores, nothing = select_starts_ends(
        logits.start_logits.double().numpy(), logits.end_logits.double().numpy(), mask, read["attention_mask"].numpy(),
        handle_impossible_answer=True, max_answer_len=30,
    )  # fmt: skip
    first, last = int(starts[0]), int(ends[0])
    return (first, last), (offsets[first][0], offsets[last][1]), np.log(nothing) - np.log(scores[0])


@every
def test_logits_of_answers_are_those_of_transformers(tmp_path, kind):
    theirs, tokenizer = write(tmp_path, kind, "QuestionAnswering")
    ours, rows = load(tmp_path), asked(8)
    backbone, own = ours.built()
    batch = Batch.of("answering", ours.task.questions(rows, own), own.pad_id)
    pairs = [[row[column] for row in rows] for column in ("question", "context")]
    read = tokenizer(*pairs, return_tensors="pt", padding=True)
    assert torch.equal(batch.source, read["input_ids"])
    logits, words = ours.heads["answering"].logits(backbone, batch)
    found = theirs(**read)
    wanted = torch.stack((found.start_logits, found.end_logits), dim=-1)
    context = torch.tensor([[part == 1 for part in read.sequence_ids(i)] for i in range(len(rows))])
    assert torch.equal(words, context)
    words[:, 0] = True
    torch.testing.assert_close(logits[words], wanted[words], atol=1e-5, rtol=1e-5)


@every
def test_answers_are_those_of_transformers(tmp_path, kind):
    theirs, tokenizer = write(tmp_path, kind, "QuestionAnswering")
    ours, rows = load(tmp_path), asked(150)
    backbone, own = ours.built()
    batch = Batch.of("answering", ours.task.questions(rows, own), own.pad_id)
    for row, spans in zip(rows, ours.heads["answering"].predict(backbone, batch, Decoding()), strict=True):
        place, characters, doubt = span_of_theirs(theirs, tokenizer, row)
        best = next(span for span in spans if span[0] > 0)
        assert best[:2] == place
        nothing = next(score for first, _, score in spans if first == 0)
        assert nothing - best[2] == pytest.approx(doubt, abs=1e-4)
        if kind in ("bert", "distilbert"):  # others may find a space alone, which is no answer of ours
            words = whole_words(row["context"], *characters)  # ours are no parts of words
            assert ours.solve([row])[0][0].spans[0][:2] == words


def test_a_long_context_is_read_in_windows_that_overlap(tmp_path):
    write(tmp_path, "bert", "QuestionAnswering")
    ours = load(tmp_path)
    row = {"question": "who?", "context": "the old dog sleeps. " * 20}
    examples = ours.task.questions([row], ours.tokenizer)
    assert (ours.task.window, ours.task.stride) == (58, 36)
    assert {len(example.source) for example in examples[:-1]} == {58}
    assert ours.solve([row])[0][0].text


def test_a_model_of_squad_2_is_known_by_its_name(tmp_path):
    names = {
        "roberta-base-squad2": True,
        "bert_SQuAD_v2": True,
        "x-squadv2.0": True,
        "bert-squad": False,
        "squad-20": False,
    }
    for name, expected in names.items():
        write(tmp_path / name, "bert", "QuestionAnswering")
        assert load(tmp_path / name).task.no_answer == expected


@every
def test_scores_of_tags_are_those_of_transformers_in_our_order(tmp_path, kind):
    theirs, tokenizer = write(tmp_path, kind, "TokenClassification", BIO)
    ours = load(tmp_path)
    backbone, own = ours.built()
    assert ours.task.tags == ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]
    rows = [["the", "old", "dog", "sleeps", "."], ["anna", "sleeps"], ["who", "?"]]
    batch = Batch.of("tagging", ours.task.questions([{"words": row} for row in rows], own), own.pad_id)
    read = tokenizer(rows, is_split_into_words=True, return_tensors="pt", padding=True)
    assert torch.equal(batch.source, read["input_ids"])
    emissions, mask, _ = ours.heads["tagging"].logits(backbone, batch)
    first = [[read.word_ids(i).index(word) for word in range(len(row))] for i, row in enumerate(rows)]
    wanted = torch.cat([theirs(**read).logits[i, places] for i, places in enumerate(first)])
    order = [BIO.index(tag) for tag in ours.task.tags]
    torch.testing.assert_close(emissions[mask], wanted[:, order], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("labels", [BIO, ("O", "I-LOC", "I-PER"), ("LOC", "PER", "O")])
def test_names_are_those_that_transformers_groups(tmp_path, labels):
    theirs, tokenizer = write(tmp_path, "bert", "TokenClassification", labels)
    pipeline = transformers.pipeline(
        "token-classification", model=theirs, tokenizer=tokenizer, aggregation_strategy="first"
    )
    texts = [f"{row['question']} {row['context']}, sleeps" for row in asked(60)]
    names = [[(each["entity_group"], each["start"], each["end"]) for each in found] for found in pipeline(texts)]
    found = [[(span.label, span.start, span.stop) for span in row] for row in load(tmp_path).tag(texts)]
    assert found == names
    assert len({name for row in found for name in row}) > 10


def test_labels_of_words_without_outside_are_one_for_each_word(tmp_path):
    theirs, tokenizer = write(tmp_path, "bert", "TokenClassification", ("NOUN", "VERB", "DET"))
    ours = load(tmp_path)
    text = "the old dog sleeps."
    with torch.no_grad():
        best = theirs(**tokenizer(text, return_tensors="pt")).logits[0, [1, 2, 3, 4, 6]].argmax(-1).tolist()
    spans = ours.tag(text)
    assert [span.text for span in spans] == ["the", "old", "dog", "sleeps", "."]
    assert [span.label for span in spans] == [theirs.config.id2label[label] for label in best]


@every
@pytest.mark.parametrize("problem", ["single_label_classification", "multi_label_classification"])
def test_probabilities_of_labels_are_those_of_transformers(tmp_path, kind, problem):
    labels = ("very good", "bad", "a")  # in no order
    theirs, tokenizer = write(tmp_path, kind, "SequenceClassification", labels, problem_type=problem)
    ours = load(tmp_path)
    with torch.no_grad():
        logits = theirs(**tokenizer(list(TEXTS), return_tensors="pt", padding=True)).logits
    several = problem == "multi_label_classification"
    wanted = logits.sigmoid() if several else logits.softmax(-1)
    found = ours.probabilities(TEXTS)
    assert ours.task.labels == labels
    rows = torch.tensor([[row[label] for label in labels] for row in found])
    torch.testing.assert_close(rows, wanted, atol=1e-5, rtol=1e-5)
    if not several:
        assert ours.classify(TEXTS) == [labels[row] for row in logits.argmax(-1).tolist()]


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert"])
def test_a_model_whose_labels_tell_of_entailment_reads_two_texts(tmp_path, kind):
    theirs, tokenizer = write(tmp_path, kind, "SequenceClassification", NLI)
    with torch.no_grad():
        wanted = theirs(**tokenizer(TEXTS[0], TEXTS[1], return_tensors="pt")).logits.softmax(-1)[0]
    ((answer,),) = load(tmp_path).solve([{"text": TEXTS[0], "pair": TEXTS[1]}])
    found = torch.tensor([answer.probabilities[label] for label in NLI])
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("head", "labels"),
    [("QuestionAnswering", ()), ("TokenClassification", BIO), ("SequenceClassification", ("good", "bad"))],
)
def test_a_head_is_imported_described_and_run_by_the_commands(tmp_path, head, labels, capsys):
    write(tmp_path / "theirs", "roberta", head, labels)
    assert main(["import", str(tmp_path / "theirs"), "--output", str(tmp_path / "ours")]) == 0
    capsys.readouterr()
    more = ["--context", "anna has a cat."] if head == "QuestionAnswering" else []
    answers = []
    for folder in ("theirs", "ours"):
        assert main(["run", str(tmp_path / folder), "who has a cat?", *more]) == 0
        answers.append(capsys.readouterr().out)
        assert main(["info", str(tmp_path / folder)]) == 0
        assert f"{load(tmp_path / folder).task.kind}: " in capsys.readouterr().out
    assert answers[0] == answers[1] != "\n"


def test_an_imported_head_of_half_precision_answers_alike(tmp_path):
    write(tmp_path / "theirs", "bert", "TokenClassification", ("O", "I-LOC", "I-PER"))
    model = load(tmp_path / "theirs", dtype=torch.bfloat16)
    again = load(save(model, tmp_path / "ours"))
    assert {span.label for row in again.tag(TEXTS) for span in row} <= {"LOC", "PER"}
    assert again.tag(TEXTS) == load(tmp_path / "theirs", dtype=torch.bfloat16).float().tag(TEXTS)


def test_a_model_that_begins_with_it_has_the_encoder_alone(tmp_path):
    write(tmp_path, "bert", "SequenceClassification", ("only",))
    backbone = Pretrained(str(tmp_path)).build(34)
    assert not [name for name, _ in backbone.named_parameters() if "hidden" in name or "classifier" in name]


@pytest.mark.parametrize(
    ("head", "labels", "settings", "problem"),
    [
        ("SequenceClassification", ("score",), {}, "it gives a text a number"),
        ("SequenceClassification", ("a", "b"), {"problem_type": "regression"}, "it gives a text a number"),
        ("SequenceClassification", ("a", "b"), {"id2label": {"0": "a", "1": "a"}}, "two labels of the same name"),
        ("SequenceClassification", ("a", "b"), {"id2label": ["a", "b"]}, "id2label that does not number labels"),
        ("SequenceClassification", ("a", "b"), {"id2label": {"0": "a", "1": "b", "2": "c"}}, r"output.weight is \(2"),
        ("TokenClassification", ("O", "B-X"), {"id2label": {"0": "O", "1": "B-X", "2": "I-X"}}, "a row for each of 3"),
        ("TokenClassification", ("O", "B-X", "L-X"), {}, "L-X, and lmtasks reads tags of the scheme BIO"),
        ("TokenClassification", ("O", "X", "I-X"), {}, "the labels O, X, I-X, and lmtasks reads tags of"),
        ("TokenClassification", ("a", "b"), {"architectures": ["BertForQuestionAnswering"]}, "lack qa_outputs.weight"),
        ("TokenClassification", ("a", "b"), {"architectures": 5}, "does nothing before it is trained"),
    ],
)  # fmt: skip
def test_a_head_that_no_task_has_is_refused(tmp_path, head, labels, settings, problem):
    write(tmp_path, "bert", head, labels)
    set_config(tmp_path, **settings)
    with pytest.raises(InputError, match=problem) as caught:
        load(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_first_token_stands_for_no_answer_in_training_too(tmp_path):
    write(tmp_path / "squad2", "bert", "QuestionAnswering")
    ours = load(tmp_path / "squad2")
    backbone, tokenizer = ours.built()
    row = {"question": "who?", "context": "the dog sleeps.", "answers": [], "starts": []}
    (example,) = ours.task.examples([row], tokenizer)
    assert example.target == [0, 0]
    batch = Batch.of("answering", [example], tokenizer.pad_id)
    assert ours.heads["answering"].loss(backbone, batch).total.isfinite()
    spans = ours.heads["answering"].predict(backbone, batch, Decoding())[0]
    assert sum(span[:2] == (0, 0) for span in spans) == 1
