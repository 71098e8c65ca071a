from dataclasses import fields
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from taketurns.config.loading import load_team_config
from taketurns.config.pair_rules import BacoRule, DeferralRule, MentorRule
from taketurns.config.policy import Guard, PatchRule, Policy
from taketurns.config.settings import parse_bytes, parse_setting
from taketurns.config.team_config import EngineConfig, SwitcherConfig
from taketurns.errors import ConfigError
from taketurns.types import Endpoint, ModelSpec

CONFIGS = Path(__file__).parent.parent / "configs"

MINIMAL = """\
candidates:
  - name: base
    model: org/base
  - name: chat
    model: org/chat
"""

NUMBERED = "switcher: {{kind: lm, model: org/lm, candidates: [{}]}}"
FOLDED = "switcher: {{kind: folded, tokens: {{{}}}, reader: {}}}"


@pytest.fixture
def team(tmp_path: Path):
    def write(text: str) -> Path:
        path = tmp_path / "team.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def refusal(path: Path, overrides: dict | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load_team_config(path, overrides)
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence.replace(f"{path}", "team.yaml")


def test_a_minimal_file_gets_every_default(team) -> None:
    config = load_team_config(team(MINIMAL))
    assert [candidate.name for candidate in config.candidates] == ["base", "chat"]
    assert config.candidates[0].spec.trust_remote_code is False
    assert config.policy == Policy()
    assert config.engine == EngineConfig()
    assert config.switcher.kind == "random"


def test_whose_the_numbers_of_a_language_model_are(team) -> None:
    assert load_team_config(team(MINIMAL + NUMBERED.format(""))).switcher.candidates == ()
    path = team(MINIMAL + NUMBERED.format("chat, base"))
    assert load_team_config(path).switcher.candidates == ("chat", "base")


def test_the_tokens_of_a_folded_switcher_follow_the_candidates(team) -> None:
    text = MINIMAL + FOLDED.format("chat: 4, base: 3", "chat")
    switcher = load_team_config(team(text)).switcher
    assert switcher.tokens == (3, 4)
    assert switcher.reader == 1


def test_names_become_indices(team) -> None:
    text = (
        MINIMAL
        + "switcher: {kind: fixed, sequence: [chat, 0]}\npolicy: {opening: chat, closing: 1}"
    )
    config = load_team_config(team(text))
    assert config.switcher.sequence == (1, 0)
    assert (config.policy.opening, config.policy.closing) == (1, 1)


def test_a_switcher_may_be_an_adapter_on_a_model(team) -> None:
    text = MINIMAL + "switcher: {kind: lm, model: org/chat, adapter: org/lora, chat_template: true}"
    switcher = load_team_config(team(text)).switcher
    assert switcher.spec is not None
    assert (switcher.spec.model, switcher.spec.adapter) == ("org/chat", "org/lora")
    assert switcher.chat_template is True


def test_paths_are_relative_to_the_file_and_hub_ids_are_left_alone(team, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    path = team(MINIMAL.replace("org/base", "./mine"))
    config = load_team_config(path)
    assert config.candidates[0].spec.model == str(tmp_path / "mine")
    assert config.candidates[1].spec.model == "org/chat"
    assert load_team_config(tmp_path).source == path


def test_from_pretrained_arguments_pass_through(team) -> None:
    extra = "    device_map: {model: 0}\n    quantization_config: {load_in_4bit: true}\n"
    spec = load_team_config(team(MINIMAL + extra)).candidates[1].spec
    assert spec.device_map == {"model": 0}
    assert spec.quantization_config == {"load_in_4bit": True}


def test_a_template_may_be_a_file(team, tmp_path: Path) -> None:
    (tmp_path / "chat.jinja").write_text("{{ messages }}")
    spec = load_team_config(team(MINIMAL + "    template: chat.jinja")).candidates[1].spec
    assert spec.template == "{{ messages }}"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            MINIMAL + "policy:\n  patchsize: 3",
            "team.yaml:7: unknown key 'patchsize' in policy; did you mean 'patch_size'?",
        ),
        (MINIMAL + "polcy: {}", "team.yaml:6: unknown key 'polcy'; did you mean 'policy'?"),
        (
            MINIMAL + "    devise: cpu",
            "team.yaml:6: unknown key 'devise' in candidates[1]; did you mean 'device'?",
        ),
        (
            MINIMAL + "engine: {xyzzy: 1}",
            "the keys are kind, deterministic, max_batch, threads, ",
        ),
        (MINIMAL + "policy: {seed: 1, seed: 2}", "team.yaml:6: the key 'seed' is written twice"),
        (MINIMAL + "candidates: []", "the key 'candidates' is written twice"),
        ("policy: {}", "team.yaml: the file needs the key 'candidates'"),
        ("candidates:\n  - name: a", "team.yaml:2: candidates[0] needs the key 'model'"),
        ("candidates: [{name: a, model: m}]", "a team needs at least two candidates"),
        (MINIMAL.replace("chat\n", "base\n"), "two candidates are named 'base'"),
        (MINIMAL + 'policy: {closing_on_end: "False"}', 'should be a valid boolean, not "False"'),
        (
            MINIMAL + "policy: {temperature: 1e-1}",
            'team.yaml:6: policy.temperature should be a valid number, not "1e-1"; write 0.1',
        ),
        (MINIMAL + "policy: {top_p: 1e-7}", "; write 1.0e-07"),
        (MINIMAL + "policy: {patch_size: 5e1}", 'valid integer, not "5e1"; write 50'),
        (MINIMAL + "policy: {patch_size: true}", "should be a valid integer, not true"),
        (MINIMAL + "policy: {patch_size: 0}", "team.yaml:6: patch_size must be at least 1, not 0"),
        (
            MINIMAL + "policy: {opening: chta}",
            "there is no candidate 'chta'; the candidates are base (0), chat (1)",
        ),
        (MINIMAL + "policy: {closing: 2}", "there is no candidate 2"),
        (MINIMAL + "switcher: {kind: lm}", 'a switcher of kind "lm" needs the key model'),
        (MINIMAL + "switcher: {kind: fixed}", 'of kind "fixed" needs the key sequence'),
        (MINIMAL + "switcher: {kind: head}", 'of kind "head" needs the key path'),
        (
            MINIMAL + "switcher: {kind: random, path: x}",
            'path is a key of kind "head" or "deferral" or "mentorcollab" or "fusionroute", but',
        ),
        (MINIMAL + "switcher: {kind: head, path: ./gone}", "team.yaml:6: there is no head at "),
        (MINIMAL + "switcher: {kind: fusionroute, path: org/x}", 'route" needs the key model'),
        (
            MINIMAL + 'switcher: {kind: lm, model: org/x, prompt: "{text}"}',
            'prompt is a key of kind "fusionroute", but this switcher has the kind "lm"',
        ),
        (MINIMAL + "switcher: {kind: folded, reader: base}", "needs the key tokens"),
        (MINIMAL + "switcher: {candidates: [chat, base]}", 'candidates is a key of kind "lm"'),
        (
            MINIMAL + NUMBERED.format("chat, chat"),
            "team.yaml:6: candidates must name each candidate once, in the order of the switcher's "
            "numbers: base, chat",
        ),
        (MINIMAL + NUMBERED.format("0, 1"), "switcher.candidates[0] should be a valid string"),
        (MINIMAL + FOLDED.format("base: 3, chat: 4", "null"), "needs the key reader"),
        (MINIMAL + FOLDED.format("base: 3", "base"), "must name every candidate: base, chat"),
        (MINIMAL + FOLDED.format("base: 3, chat: 3", "base"), "must be different token ids"),
        (MINIMAL + FOLDED.format("base: 3, chat: 4", "ghost"), "there is no candidate 'ghost'"),
        (
            MINIMAL + "switcher: {kind: ml}",
            "'nudging', 'baco', 'mentorcollab', 'deferral' or 'fusionroute', not \"ml\"",
        ),
        (MINIMAL.replace("org/base", "./gone"), "team.yaml:3: there is no model at "),
        (MINIMAL + "    prompt: Q", "prompt must contain {text}"),
        (MINIMAL + "    template: gone.jinja", "cannot read "),
        (MINIMAL + "engine: {memory: lots}", 'memory is written like "4 GiB"'),
        (MINIMAL + "engine: {max_batch: 0}", "max_batch must be at least 1"),
        (MINIMAL + "engine: {threads: 0}", "threads must be at least 1"),
        ("candidates: [", "not valid YAML"),
        ("- a\n- b", "a team file must be a mapping of keys to values"),
        ("", "a team file must be a mapping of keys to values"),
        ("a: !!python/object/apply:os.system [ls]", "not valid YAML"),
        ("? [a]\n: b", "a key must be a word"),
        ("candidates: &a [*a]", "team.yaml"),
        ("candidates: 2020-01-01", "team.yaml"),
    ],
)
def test_a_mistake_is_one_sentence(team, text: str, sentence: str) -> None:
    assert sentence in refusal(team(text))


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    path = tmp_path / "team.yaml"
    path.write_bytes(b"\xff\xfe")
    assert "UTF-8" in refusal(path)


def test_a_missing_file_and_the_bundled_team() -> None:
    assert '"pocket" or "smol" for a bundled team' in refusal(Path("/nowhere/team.yaml"))
    config = load_team_config("pocket")
    assert [candidate.name for candidate in config.candidates] == ["pretrained", "sft", "aligned"]


def test_overrides_reach_every_setting(team) -> None:
    path = team(MINIMAL)
    changed = {"patch_size": 7, "policy.opening": "chat", "candidates.base.dtype": "bfloat16"}
    config = load_team_config(path, changed)
    assert config.policy == Policy(patch_size=7, opening=1)
    assert config.candidates[0].spec.dtype == "bfloat16"
    assert "unknown key 'patchsize' in policy" in refusal(path, {"policy.patchsize": 3})
    assert "there is no entry 'bse'; the entries are base, chat" in refusal(
        path, {"candidates.bse.dtype": "x"}
    )
    assert "policy.patch_size.x is not a mapping" in refusal(
        path, {"patch_size": 3, "policy.patch_size.x.y": 3}
    )


def test_a_rule_for_patches_is_read_as_strictly(team) -> None:
    path = team(MINIMAL + "policy:\n  patch:\n    until: sentence\n    min: 4\n")
    assert load_team_config(path).policy.patch == PatchRule("sentence", min=4)
    assert load_team_config(path, {"policy.patch": None}).policy.patch is None
    asked = {"policy.patch.until": "switcher", "policy.patch.margin": 0.3}
    assert load_team_config(path, asked).policy.patch == PatchRule("switcher", min=4, margin=0.3)
    for change, sentence in (
        ({"untill": "x"}, "unknown key 'untill' in policy.patch; did you mean 'until'"),
        ({"until": "word"}, "policy.patch.until should be 'sentence'"),
        ({"max": 3}, "patch.max must be at least patch.min, which is 4, not 3"),
        ({"dwell": 0}, "patch.dwell must be at least 1"),
        ({"rise": 0.0}, "patch.rise must be above 0"),
        ({"margin": 1.0}, "patch.margin must be 0 or more and below 1"),
    ):
        asked = {f"policy.patch.{key}": value for key, value in change.items()}
        assert sentence in refusal(path, asked)
    assert "team.yaml:9: patch.min" in refusal(team(path.read_text().replace("min: 4", "min: 0")))
    missing = team(MINIMAL + "policy: {patch: {min: 4}}\n")
    assert "policy.patch needs the key 'until'" in refusal(missing)


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("policy.patch_size=32", "policy.patch_size", 32),
        ("policy.stop=[a, b]", "policy.stop", ["a", "b"]),
        ("policy.opening=null", "policy.opening", None),
        ("policy.closing_cue=a=b", "policy.closing_cue", "a=b"),
    ],
)
def test_a_setting_on_the_command_line_is_read_as_yaml(text: str, key: str, value: object) -> None:
    assert parse_setting(text) == (key, value)


@pytest.mark.parametrize("text", ["patch_size", "=3", "a=[", "a={"])
def test_a_setting_that_cannot_be_read(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_setting(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [("4 GiB", 4 << 30), ("500MB", 500_000_000), ("1.5k", 1500), (17, 17), ("17 B", 17)],
)
def test_memory_sizes(text: str | int, size: int) -> None:
    assert parse_bytes(text) == size


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text() | st.floats(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    )
)
def test_no_file_makes_the_loader_crash(tmp_path_factory, data: object) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(yaml.safe_dump({"candidates": data}), encoding="utf-8")
    with pytest.raises(ConfigError):
        load_team_config(path)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_papers_teams_load(path: Path) -> None:
    config = load_team_config(path)
    assert len(config.candidates) == 3
    assert config.switcher.kind == "lm"
    assert config.switcher.chat_template is True


def test_the_page_on_team_files_lists_every_key_and_its_example_loads(team, tmp_path: Path) -> None:
    page = (CONFIGS.parent / "docs" / "team-file.md").read_text(encoding="utf-8")
    records = {
        ModelSpec: set(),
        SwitcherConfig: {"spec", "endpoint", "settings", "pair"},
        BacoRule: set(),
        MentorRule: set(),
        DeferralRule: set(),
        Endpoint: set(),
        Policy: {"guard"},
        PatchRule: set(),
        Guard: set(),
        EngineConfig: {"memory_bytes", "settings"},
    }
    for record, renamed in records.items():
        for key in {item.name for item in fields(record)} - renamed:
            assert f"| `{key}` |" in page, f"{key} of {record.__name__}"
    (tmp_path / "checkpoints" / "sft").mkdir(parents=True)
    example = page.split("```yaml\n")[1].split("```")[0]
    assert load_team_config(team(example)).policy.closing == 2


def test_the_page_states_the_defaults() -> None:
    page = (CONFIGS.parent / "docs" / "team-file.md").read_text(encoding="utf-8")
    several = {"kind", "model", "until", "vllm"}  # keys of more than one section
    for record in (Policy(), PatchRule("random"), EngineConfig(), ModelSpec("m")):
        for item in fields(record):
            value = getattr(record, item.name)
            row = next((r for r in page.splitlines() if r.startswith(f"| `{item.name}` |")), None)
            if row is None or item.name in several | {"deterministic", "open_requests"}:
                continue
            empty = "{}" if item.name == "max_share" else "[]"
            shown = empty if value == () else "null" if value is None else str(value).lower()
            assert row.split("|")[2].strip().strip("`") == shown, item.name
