"""Programs: the parts of which `run.py` is put together, one for each step of an answer.

Two blank lines stand between two parts. `WRITE` and the others are what follows the head, for each engine.
"""

HEAD = '''"""{what}

    python {file} {usage}

It needs {needs}, and the files beside it. Written by lmtasks {version}.
"""

{standard}

try:
{packages}
except ImportError as error:
    sys.exit(f"{{error}}: pip install {install}")

here = Path(__file__).parent


def opened(name, opener):
    """Return what `opener` makes of the path of a file of the export."""
    path = here / name
    if not path.exists():
        sys.exit(f"{{path}} is missing: export the model again")
    try:
        return opener(path)
    except Exception as error:  # each package raises its own
        reason = str(error).split("\\n")[0]
        sys.exit(f"{{path}} cannot be read: export the model again ({{reason}})")


def read_json(path):
    return json.loads(path.read_text(encoding="utf-8"))


def utf8(argument):
    argument.encode()  # fails where bytes are no characters, which the parser then says
    return argument


task = opened("lmtasks.json", lambda path: read_json(path)["run"][{name}])
parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
{arguments}
given = parser.parse_args()
texts = {{name: vars(given)[name] for name in task["texts"]}}
'''

LANGUAGES = """
languages, directions = task["languages"], task["directions"] or permutations(task["languages"], 2)
fitting = [each for each in directions if given.source in (None, each[0]) and given.target in (None, each[1])]
if len(fitting) != 1:
    known = ", ".join("-".join(each) for each in task["directions"]) or "any two of " + ", ".join(languages)
    parser.error(f"choose one direction of {known} by --source and --target")
ids = {name: languages[language] for name, language in zip(("source", "target"), fitting[0])}
task |= {template: [ids.get(part, part) for part in task[template]] for template in ("source", "prefix")}
"""

PIECES = '''
tokenizer = opened("tokenizer.json", lambda path: Tokenizer.from_file(str(path)))
tokenizer.encode_special_tokens = task["specials_as_text"]  # a text that spells "</s>" is text


def cut(text):
    """Return a text as ids."""
    return tokenizer.encode(text, add_special_tokens=False).ids
'''

JOIN_PIECES = '''
def join(ids):
    """Return ids as a text."""
    return tokenizer.decode([i for i in ids if i not in task["silent"]])
'''

SENTENCES = '''
numbers = opened("pieces.json", read_json)
source_pieces = opened("source.spm", lambda path: SentencePieceProcessor(model_file=str(path)))


def cut(text):
    """Return a text as ids."""
    return [numbers.get(piece, numbers["<unk>"]) for piece in source_pieces.encode(text, out_type=str)]
'''

JOIN_SENTENCES = '''
target_pieces = opened("target.spm", lambda path: SentencePieceProcessor(model_file=str(path)))


def join(ids):
    """Return ids as a text."""
    names = {number: name for name, number in numbers.items()}
    return target_pieces.decode([names[i] for i in ids if i in names and i not in task["silent"]]).strip()
'''

BLANK = """
if not all(each.strip() for each in texts.values()):
    sys.exit()  # there is no answer to a blank text
"""

SHORTENED = '''
def shortened(tokens):
    """Return the tokens of a source without those that are too many for the model; the task says where they are."""
    over, place = len(tokens) - (task["longest"] or len(tokens)), task["cut_at"]
    if over <= 0:
        return tokens
    print(f"the text has {len(tokens)} tokens and was cut to {task['longest']}", file=sys.stderr)
    return tokens[:place] + tokens[place + over :]
'''

SOURCE = """
parts = {name: cut(before + each) for before, (name, each) in zip(task["before"], texts.items())}
source = []
for part in task["source"]:  # an id, or the name of a text
    source += parts.get(part, [part])
source = shortened(source)
"""

LIMIT = """
longest, prefix = task["max_length"], task["prefix"]  # a text ends within so many tokens, and begins with these
if task["max_ratio"]:
    most = int(task["max_ratio"] * len(source)) + task["slack"]
    longest = min(longest, max(most, task["min_length"], len(prefix) + 1))
"""

LIMIT_OF_BLOCK = """
longest = min(task["max_length"], task["block"] - len(source) + 1)  # the source and a text fill a block at most
"""

ENCODER_DECODER = """
encoder = opened("encoder_model.onnx", onnxruntime.InferenceSession)
decoder = opened("decoder_with_past_model.onnx", onnxruntime.InferenceSession)
ids = np.array([source])
mask = np.ones_like(ids)
outputs = encoder.run(None, {"input_ids": ids, "attention_mask": mask})
memory = {
    output.name.replace("present", "past_key_values"): value
    for output, value in zip(encoder.get_outputs(), outputs)
    if output.name.startswith("present")
}
fixed, begin = {"encoder_attention_mask": mask, **memory}, [task["start"], *prefix]
"""

DECODER = """
decoder = opened("model.onnx", onnxruntime.InferenceSession)
fixed, begin, prefix = {}, source, []
"""

SEARCH = '''
def beam_search(beam, penalty):
    """Return the best text, as ids: `beam` of them grow side by side, until none can beat the best that has ended."""
    inputs = [each for each in decoder.get_inputs() if each.name.startswith("past_key") and each.name not in fixed]
    kind = {"tensor(float16)": np.float16}.get(inputs[0].type, np.float32)
    sizes = [[size if isinstance(size, int) else 0 for size in each.shape[1:]] for each in inputs]
    past = {each.name: np.zeros((1, *size), kind) for each, size in zip(inputs, sizes)}
    recurs, seen = any(each.name == "past_ids" for each in decoder.get_inputs()), 0
    read, written, totals, best, ended = np.array([begin]), [prefix], np.zeros(1), [], []
    counted = beam if task["early_stop"] == "estimate" else 1  # how many of the best that have ended must be beaten
    while True:
        for ids in np.split(read, read.shape[1], axis=1) if recurs else [read]:  # an SSRU reads one token at a time
            past_ids = {"past_ids": np.zeros((len(ids), seen), np.int64)} if recurs else {}  # only their number counts
            logits, *present = decoder.run(None, {"input_ids": ids, **past_ids, **fixed, **past})
            past, seen = {each.name: value for each, value in zip(inputs, present)}, seen + 1
        logits = logits[:, -1].astype(np.float64)
        peak = logits.max(1, keepdims=True)
        log_p = logits - peak - np.log(np.exp(logits - peak).sum(1, keepdims=True))
        log_p[:, task["suppress"]] = -np.inf
        length, size = len(written[0]) + 1, log_p.shape[1]
        if length < task["min_length"]:
            log_p[:, task["end"]] = -np.inf
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

CT2_TRANSLATE = """
names = opened("shared_vocabulary.json", read_json)
translator = opened("model.bin", lambda path: ctranslate2.Translator(str(path.parent)))
(found,) = translator.translate_batch(
    [[names[i] for i in source]],
    target_prefix=[[names[i] for i in [*task["told"], *prefix]]],
    max_decoding_length=longest,
    min_decoding_length=max(0, task["min_length"] - 1),
    suppress_sequences=[[names[i]] for i in task["suppress"]] or None,
    return_end_token=True,
    **task["search"],
)
numbers = {name: number for number, name in enumerate(names)}
best = [i for i in [numbers[name] for name in found.hypotheses[0]][: longest - 1] if i != task["end"]]
"""

CT2_GENERATE = """
names = opened("vocabulary.json", read_json)
generator = opened("model.bin", lambda path: ctranslate2.Generator(str(path.parent)))
(found,) = generator.generate_batch(
    [[names[i] for i in source]],
    include_prompt_in_result=False,
    max_length=longest,
    min_length=max(0, min(task["min_length"], longest) - 1),
    suppress_sequences=[[names[i]] for i in task["suppress"]] or None,
    return_end_token=True,
    **task["search"],
)
best = [i for i in found.sequences_ids[0][: longest - 1] if i != task["end"]]
"""

PRINT_TEXT = """
print(join(best))
"""

PRINT_REST = """
before, whole = join(source), join(source + best)
print(whole[len(os.path.commonprefix([before, whole])) :])  # the text before it may end in half a character
"""

ONNX_LOGITS = '''
session = opened(task["file"], onnxruntime.InferenceSession)


def score(source):
    """Return the logits of a source."""
    ids = np.array([source])
    (logits,) = session.run(None, {"input_ids": ids, "attention_mask": np.ones_like(ids)})
    return logits[0].astype(np.float64)
'''

ONNX_EMISSIONS = '''
session = opened(task["file"], onnxruntime.InferenceSession)


def score(source, first):
    """Return the logits of each word of a source, whose first piece is told by a 1."""
    ids = np.array([source])
    inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids), "words": np.array([first])}
    return session.run(None, inputs)[0][0, : sum(first)].astype(np.float64)
'''

CT2_STATES = '''
encoder = opened(f"{task['folder']}/model.bin", lambda path: ctranslate2.Encoder(str(path.parent)))


def read_weights(path):
    """Return the weights of the head; the file has a header in JSON, and then the numbers."""
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    weights = {}
    for name, about in json.loads(content[8:start]).items():
        if name.startswith(f"{task['head']}."):
            begin, end = (start + place for place in about["data_offsets"])
            weights[name] = np.frombuffer(content[begin:end], np.float32).reshape(about["shape"])
    return weights


weights = opened("heads.safetensors", read_weights)


def states(source):
    """Return the state of each token of a source."""
    types = None
    if task["segments"] > 1:
        ended = np.cumsum([0] + [i == task["separator"] for i in source[:-1]])
        types = [np.minimum(ended, task["segments"] - 1).tolist()]
    return np.array(encoder.forward_batch([source], token_type_ids=types).last_hidden_state)[0].astype(np.float64)


def linear(x, name):
    """Return what a layer of the head makes of x."""
    return x @ weights[f"{task['head']}.{name}.weight"].T + weights[f"{task['head']}.{name}.bias"]
'''

CT2_POOLED = '''
def score(source):
    """Return the logits of a source."""
    x = states(source)
    x = {"mean": x.mean(0), "max": x.max(0), "first": x[0]}[task["pooling"]]
    if task["hidden"] != "none":
        x = linear(x, "hidden")
        x = np.tanh(x) if task["hidden"] == "tanh" else np.maximum(x, 0)
    return linear(x, "output")
'''

CT2_EMISSIONS = '''
def score(source, first):
    """Return the logits of each word of a source, whose first piece is told by a 1."""
    return linear(states(source)[np.array(first, bool)], "emission")
'''

CT2_EDGES = '''
def score(source):
    """Return two logits of each token, as the first and as the last of the answer."""
    return linear(states(source), "output")
'''

LABELS = """
logits = score(source)
if task["multi_label"]:
    shares = 1 / (1 + np.exp(-logits))
    print(", ".join(sorted(label for label, share in zip(task["labels"], shares) if share >= 0.5)))
else:
    shares = np.exp(logits - logits.max())
    best = int(shares.argmax())
    print(f"{task['labels'][best]}\\t{shares[best] / shares.sum():.4f}")
"""

WORDS = """
(text,) = texts.values()
words = [match.span() for match in re.finditer(task["words"], text)]
if not words:
    print(text)
    sys.exit()
tokens = [(i, 0) for i in task["lead"]]  # ids, with 1 at the first piece of each word
for start, stop in words:
    word = text[start:stop]
    marks = task["marks"] if task["marks"] and word != word.lower() else []
    marks = marks[1:] if word[1:] != word[1:].lower() else marks[:1]
    first, *others = cut(task["space"] + word) or [task["end"]]
    tokens += [*((i, 0) for i in marks), (first, 1), *((i, 0) for i in others)]
source, first = map(list, zip(*shortened([*tokens, (task["close"], 0)])))
"""

TAGS = """
follow, begin, end = (np.array(task[name]) for name in ("follow", "begin_tag", "end_tag"))
emissions = score(source, first)
scores, back = begin + emissions[0], []
for emission in emissions[1:]:  # Viterbi: the best sequence of tags that breaks no rule
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
    name = f"{label} {text[start:stop]}".strip()
    text = f"{text[:start]}[{name}]{text[stop:]}"
print(text)
"""

SPAN = """
lead, between, close = task["source"]
question = [i for i in cut(" ".join(texts["question"].split())) if i != close[-1]][: task["window"] // 2]
context = tokenizer.encode(texts["context"], add_special_tokens=False)
if not context.ids:
    sys.exit()
head = lead + question + between
room = task["window"] - len(head) - len(close)  # the tokens of the context that a window has
step = min(task["stride"], room)
best, nothing = (-np.inf, 0, 0), np.inf  # the score of the best answer with its tokens, and that of no answer
for begin in range(0, max(1, len(context.ids) - room + step), step):
    logits = score(head + context.ids[begin : begin + room] + close)
    nothing = min(nothing, logits[-1 if task["no_answer_at"] == "last" else 0].sum() + task["threshold"])
    starts, ends = logits[len(head) : len(logits) - len(close)].T
    allowed = np.triu(np.tri(len(starts), k=task["max_answer"] - 1))  # no answer ends before it starts, or is too long
    pairs = np.where(allowed, starts[:, None] + ends, -np.inf)
    first, last = np.unravel_index(pairs.argmax(), pairs.shape)
    best = max(best, (pairs[first, last], begin + first, begin + last), key=lambda each: each[0])
if task["no_answer"] and nothing >= best[0]:
    sys.exit()
text, start, stop = texts["context"], context.offsets[best[1]][0], context.offsets[best[2]][1]
words = [match.span() for match in re.finditer(task["word"], text)]
start = next((left for left, right in words if left < start < right), start)  # no answer is a part of a word
stop = next((right for left, right in words if left < stop < right), stop)
print(text[start:stop].strip())
"""

BEGIN = {
    "ct2": (SHORTENED, SOURCE, LIMIT, CT2_TRANSLATE),
    "onnx": (SHORTENED, SOURCE, LIMIT, ENCODER_DECODER, SEARCH),
}
CONTINUE = {
    "ct2": (SHORTENED, SOURCE, LIMIT_OF_BLOCK, CT2_GENERATE),
    "onnx": (SHORTENED, SOURCE, LIMIT_OF_BLOCK, DECODER, SEARCH),
}
WRITE = {engine: (BLANK, *parts) for engine, parts in BEGIN.items()}
CLASSIFY = {
    "ct2": (BLANK, CT2_STATES, CT2_POOLED, SHORTENED, SOURCE, LABELS),
    "onnx": (BLANK, ONNX_LOGITS, SHORTENED, SOURCE, LABELS),
}
TAG = {
    "ct2": (CT2_STATES, CT2_EMISSIONS, SHORTENED, WORDS, TAGS),
    "onnx": (ONNX_EMISSIONS, SHORTENED, WORDS, TAGS),
}
ANSWER = {"ct2": (BLANK, CT2_STATES, CT2_EDGES, SPAN), "onnx": (BLANK, ONNX_LOGITS, SPAN)}

DOCKERFILE = """# docker build -t {name} . && docker run --rm {name} {usage}
FROM python:3.11-bookworm AS build
RUN pip install --no-cache-dir --no-compile --no-deps --target /packages {packages} \\
 && find /packages -name tests -type d -prune -exec rm -r {{}} + \\
 && find /packages -path "*ctranslate2/_ext*.so" -exec strip --strip-debug {{}} +
FROM gcr.io/distroless/python3-debian12:nonroot
COPY --from=build /packages /packages
COPY --chown=nonroot . /model
ENV PYTHONPATH=/packages PYTHONDONTWRITEBYTECODE=1
ENTRYPOINT ["python3", "/model/{file}"]
"""
