"""Programs: the parts of which `run.py` is put together, one for each step of an answer."""

HEAD = '''"""{what}

    python {file} {usage}

It needs {needs}, and the files beside it. Written by lmtasks {version}.
"""

{imports}

here = Path(__file__).parent
task = json.loads((here / "lmtasks.json").read_text(encoding="utf-8"))["run"][{name}]
if len(sys.argv) != 1 + len(task["texts"]):
    sys.exit("usage: python {file} {usage}")
texts = dict(zip(task["texts"], sys.argv[1:]))
if not all(text.strip() for text in texts.values()):
    sys.exit()  # there is no answer to a blank text
'''

PIECES = """tokenizer = Tokenizer.from_file(str(here / "tokenizer.json"))
tokenizer.encode_special_tokens = task["specials_as_text"]  # a text that spells "</s>" is text


def cut(text):
    return tokenizer.encode(text, add_special_tokens=False).ids


def join(ids):
    return tokenizer.decode([i for i in ids if i not in task["silent"]])
"""

SENTENCES = """source_pieces = SentencePieceProcessor(model_file=str(here / "source.spm"))
target_pieces = SentencePieceProcessor(model_file=str(here / "target.spm"))
numbers = json.loads((here / "pieces.json").read_text(encoding="utf-8"))
names = {number: name for name, number in numbers.items()}


def cut(text):
    return [numbers.get(piece, numbers["<unk>"]) for piece in source_pieces.encode(text, out_type=str)]


def join(ids):
    return target_pieces.decode([names[i] for i in ids if i in names and i not in task["silent"]]).strip()
"""

SOURCE = """

source = []
for part in task["source"]:  # ids, or a text
    source += part if isinstance(part, list) else cut(part["before"] + texts[part["text"]])
if task["longest"] and len(source) > task["longest"]:
    source = source[: task["longest"] - 1] + source[-1:]
"""

ENCODER_DECODER = """
encoder = onnxruntime.InferenceSession(here / "encoder_model.onnx")
decoder = onnxruntime.InferenceSession(here / "decoder_with_past_model.onnx")
ids = np.array([source])
mask = np.ones_like(ids)
outputs = encoder.run(None, {"input_ids": ids, "attention_mask": mask})
memory = {
    output.name.replace("present", "past_key_values"): value
    for output, value in zip(encoder.get_outputs(), outputs)
    if output.name.startswith("present")
}
fixed = {"encoder_attention_mask": mask, **memory}
before, begin = 0, [task["start"], *task["prefix"]]
longest = task["max_length"]
if task["max_ratio"]:
    longest = min(longest, max(int(task["max_ratio"] * len(source)) + task["slack"], len(task["prefix"]) + 1))
"""

DECODER = """
decoder = onnxruntime.InferenceSession(here / "model.onnx")
fixed, begin = {}, source
longest = task["max_length"]
if task["block"]:
    longest = min(longest, task["block"] - len(source) + 1)
"""

SEARCH = '''

def beam_search(beam, penalty):
    """Return the best text, as ids: `beam` of them grow side by side, until none can beat the best that has ended."""
    inputs = [each for each in decoder.get_inputs() if each.name.startswith("past_key") and each.name not in fixed]
    kind = {"tensor(float16)": np.float16}.get(inputs[0].type, np.float32)
    sizes = [[size if isinstance(size, int) else 0 for size in each.shape[1:]] for each in inputs]
    past = {each.name: np.zeros((1, *size), kind) for each, size in zip(inputs, sizes)}
    recurs, seen = any(each.name == "past_ids" for each in decoder.get_inputs()), 0
    read, written, totals, best, ended = np.array([begin]), [task["prefix"]], np.zeros(1), [], []
    counted = beam if task["early_stop"] == "estimate" else 1  # how many of the best that have ended must be beaten
    while True:
        for ids in np.split(read, read.shape[1], axis=1) if recurs else [read]:  # an SSRU reads one token at a time
            given = {"past_ids": np.zeros((len(ids), seen), np.int64)} if recurs else {}  # only their number counts
            logits, *present = decoder.run(None, {"input_ids": ids, **given, **fixed, **past})
            past, seen = {each.name: value for each, value in zip(inputs, present)}, seen + 1
        logits = logits[:, -1].astype(np.float64)
        peak = logits.max(1, keepdims=True)
        log_p = logits - peak - np.log(np.exp(logits - peak).sum(1, keepdims=True))
        log_p[:, task["suppress"]] = -np.inf
        length, size = len(written[0]) + 1, log_p.shape[1]
        if length >= longest:  # a text at its limit may only end
            log_p[:, np.arange(size) != task["end"]] = -np.inf
        total = (totals[:, None] + log_p).ravel()
        order = [int(i) for i in np.argsort(-total, kind="stable")[: beam + len(written)] if total[i] > -np.inf]
        for row, score in ((i // size, total[i] / length**penalty) for i in order[:beam] if i % size == task["end"]):
            if score > max(ended, default=-np.inf):
                best = written[row]
            ended.append(score)
        going = [i for i in order if i % size != task["end"]][:beam]
        if not going or (ended and beam == 1) or (task["early_stop"] == "beam" and len(ended) >= beam):
            return best
        reach = longest if penalty > 0 else length + 1
        reach = reach if task["early_stop"] == "exact" else length
        if len(ended) >= counted and total[going[0]] / reach**penalty <= sorted(ended)[-counted]:
            return best
        rows, totals = [i // size for i in going], total[going]
        written = [[*written[i // size], i % size] for i in going]
        read = np.array([[i % size] for i in going])
        if len(going) != len(logits):
            fixed.update({name: value[[0] * len(going)] for name, value in fixed.items()})  # a row for each text
        past = {name: value[rows] for name, value in past.items()}


best = beam_search(task["beam"], task["length_penalty"])
'''

ONNX_LOGITS = """
session = onnxruntime.InferenceSession(here / task["file"])
ids = np.array([source])
(logits,) = session.run(None, {"input_ids": ids, "attention_mask": np.ones_like(ids)})
logits = logits[0].astype(np.float64)
"""

ONNX_TAGS = """
session = onnxruntime.InferenceSession(here / task["file"])
ids = np.array([source])
inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids), "words": np.array([first])}
logits = session.run(None, inputs)[0][0, : len(words)].astype(np.float64)
"""

LABELS = """
if task["multi_label"]:
    shares = 1 / (1 + np.exp(-logits))
    print(", ".join(sorted(label for label, share in zip(task["labels"], shares) if share >= 0.5)))
else:
    shares = np.exp(logits - logits.max())
    best = int(shares.argmax())
    print(f"{task['labels'][best]}\\t{shares[best] / shares.sum():.4f}")
"""

WORDS = """

text = texts[task["texts"][0]]
words = [match.span() for match in re.finditer(task["words"], text)]
if not words:
    print(text)
    sys.exit()
source, first = list(task["lead"]), [0] * len(task["lead"])  # ids, and 1 at the first piece of each word
for start, stop in words:
    word = text[start:stop]
    marks = task["marks"] if task["marks"] and word != word.lower() else []
    marks = marks[1:] if word[1:] != word[1:].lower() else marks[:1]
    pieces = cut(task["space"] + word) or [task["end"]]
    source += marks + pieces
    first += [0] * len(marks) + [1] + [0] * (len(pieces) - 1)
source, first = [*source, task["close"]], [*first, 0]
"""

TAGS = """
follow, begin, end = (np.array(task[name]) for name in ("follow", "begin_tag", "end_tag"))
scores, back = begin + logits[0], []
for emission in logits[1:]:  # Viterbi: the best sequence of tags that breaks no rule
    reach = scores[:, None] + follow
    back.append(reach.argmax(0))
    scores = reach.max(0) + emission
tags = [int((scores + end).argmax())]
for before in reversed(back):
    tags.insert(0, int(before[tags[0]]))

names, last = [], ("O", "")  # (label, start, stop)
for (start, stop), (prefix, _, label) in zip(words, (task["tags"][tag].partition("-") for tag in tags)):
    if prefix == "I" and last in (("B", label), ("I", label)):
        names[-1] = (label, names[-1][1], stop)
    elif prefix != "O":
        names.append((label, start, stop))
    last = (prefix, label)
for label, start, stop in reversed(names):
    text = f"{text[:start]}[{label} {text[start:stop]}]{text[stop:]}"
print(text)
"""

QUESTION = """

question = cut(" ".join(texts["question"].split()))[: task["window"] // 2]
context = tokenizer.encode(texts["context"], add_special_tokens=False)
lead, between, close = task["source"]
head = lead + question + between
room = task["window"] - len(head) - len(close)
if len(context.ids) > room:
    print(f"the context is longer than {room} tokens, and only its beginning is read", file=sys.stderr)
source = head + context.ids[:room] + close
"""

SPAN = """
first, last = len(head), len(source) - len(close)  # the tokens of the context
starts, ends = logits[first:last].T
pairs = np.triu(starts[:, None] + ends) + np.where(np.triu(np.ones((last - first,) * 2)), 0, -np.inf)
pairs = np.where(np.tri(last - first, k=task["max_answer"] - 1), pairs, -np.inf)
begin, stop = np.unravel_index(pairs.argmax(), pairs.shape)
nowhere = logits[-1 if task["no_answer_at"] == "last" else 0].sum() + task["threshold"]
if task["no_answer"] and nowhere >= pairs.max():
    sys.exit()
print(texts["context"][context.offsets[begin][0] : context.offsets[stop][1]].strip())
"""

PRINT_TEXT = """
print(join(best))
"""

PRINT_REST = """
print(join(source + best)[len(join(source)) :])
"""

ONNX_WRITE, ONNX_CONTINUE = ENCODER_DECODER + SEARCH + PRINT_TEXT, DECODER + SEARCH + PRINT_REST

CT2_WRITE = """
translator = ctranslate2.Translator(str(here))
names = json.loads((here / "shared_vocabulary.json").read_text(encoding="utf-8"))
longest = task["max_length"]
if task["max_ratio"]:
    longest = min(longest, max(int(task["max_ratio"] * len(source)) + task["slack"], len(task["prefix"]) + 1))
begin = [*task["told"], *task["prefix"]]
(found,) = translator.translate_batch(
    [[names[i] for i in source]],
    target_prefix=[[names[i] for i in begin]],
    max_decoding_length=longest,
    suppress_sequences=[[names[i]] for i in task["suppress"]] or None,
    return_end_token=True,
    **task["search"],
)
numbers = {name: number for number, name in enumerate(names)}
best = [numbers[name] for name in found.hypotheses[0]]
print(join([i for i in best[: longest - 1] if i != task["end"]]))
"""

CT2_CONTINUE = """
generator = ctranslate2.Generator(str(here))
names = json.loads((here / "vocabulary.json").read_text(encoding="utf-8"))
longest = task["max_length"]
if task["block"]:
    longest = min(longest, task["block"] - len(source) + 1)
(found,) = generator.generate_batch(
    [[names[i] for i in source]],
    include_prompt_in_result=False,
    max_length=longest,
    suppress_sequences=[[names[i]] for i in task["suppress"]] or None,
    return_end_token=True,
    **task["search"],
)
best = [i for i in found.sequences_ids[0][: longest - 1] if i != task["end"]]
print(join(source + best)[len(join(source)) :])
"""

CT2_STATES = '''
encoder = ctranslate2.Encoder(str(here / task["folder"]))
types = None
if task["segments"] > 1:
    ended = np.cumsum([0] + [i == task["separator"] for i in source[:-1]])
    types = [np.minimum(ended, task["segments"] - 1).tolist()]
states = np.array(encoder.forward_batch([source], token_type_ids=types).last_hidden_state)[0].astype(np.float64)

content = (here / "heads.safetensors").read_bytes()
size = int.from_bytes(content[:8], "little")
header = json.loads(content[8 : 8 + size])


def weight(name):
    """Return a weight of the head; the file has a header in JSON, and then the numbers."""
    about = header[task["head"] + "." + name]
    begin, end = (8 + size + place for place in about["data_offsets"])
    return np.frombuffer(content[begin:end], np.float32).reshape(about["shape"])


def linear(x, name):
    return x @ weight(name + ".weight").T + weight(name + ".bias")
'''

POOLED = """

pooled = {"mean": states.mean(0), "max": states.max(0), "first": states[0]}[task["pooling"]]
if task["hidden"] != "none":
    pooled = linear(pooled, "hidden")
    pooled = np.tanh(pooled) if task["hidden"] == "tanh" else np.maximum(pooled, 0)
logits = linear(pooled, "output")
"""

EMISSIONS = """

logits = linear(states[np.array(first, bool)], "emission")
"""

EDGES = """

logits = linear(states, "output")
"""

DOCKERFILE = """# docker build -t {name} . && docker run --rm {name} {usage}
FROM python:3.11-slim-bookworm AS build
RUN pip install --no-cache-dir --no-compile --no-deps --target /packages {packages} \\
 && find /packages -name tests -type d -prune -exec rm -r {{}} +
FROM gcr.io/distroless/python3-debian12
COPY --from=build /packages /packages
COPY . /model
ENV PYTHONPATH=/packages PYTHONDONTWRITEBYTECODE=1
ENTRYPOINT ["python3", "/model/{file}"]
"""
