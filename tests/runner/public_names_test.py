"""The public names, held by a snapshot: a change here is a change for users."""

import ast
import importlib
import warnings
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMES = {
    "models": "Ascent BatchNorm BiasedHead ConvNet Drafted FanIn GatedMLP"
    " Hidden Imputer LOST Latents LayerAttention LoRA MLP"
    " MatrixFactorization MoE Model NormRemoval Normal Quantized"
    " Routing SecondHead Transformer TrunkOutput TwoTowers VQHead"
    " Views VisionTransformer",
    "runner": "Aligned ContextTeacher ContrastedTeacher DynamicTeacher EMATeacher"
    " EnsembleTeacher Evaluate Evaluation Experiment Export FusedTeacher KeepBest"
    " LargestAttentionLogit MostConfidentTeacher NamedTeachers OfflineTeacher"
    " OnlineTeacher"
    " PromptedTeacher RecordTeacher RoutedTeacher RunWriter Sample ScheduledTeacher"
    " ServedTeacher Soup StartTeacher StepContext StepHook Trainer UnlearnedTeacher"
    " ViewTeacher averages data optimizers starts step_rules sweeps",
    "runner.data": "ArrayRecords Baseline Batches ByteBPE Captions Channels Chat"
    " ChatPairRows ChatPairs ChatRows Classes Column Columns"
    " Continuations DataSource Dataset Digits Document Documents"
    " Example Examples GGUFTokenizer HiddenNumbers HuggingFaceDataset"
    " IdxFolder IdxImages Images Interactions JsonLines"
    " JudgedCompletions JudgedRecords Labels MegatronTokens MixedRows"
    " Mixture OnPolicy Oscillations PackedText PairRecords Parquet"
    " Part Partition PlannedTokens PreferencePairs PromptedRows"
    " PythonLibrary PythonQuestions Ramp Record Records Series"
    " SeriesFile Split Stage SyntheticInteractions TextFiles"
    " TokenRecords TokenizedText TokenizerFile TokenizerSource"
    " UsedTokens Vocabulary batches evaluation_batches"
    " numbered_batches python_library_rows python_library_text"
    " write_columns",
    "runner.sweeps": "Distribution Frozen Point Unit choice freeze inductive_bias load"
    " log_uniform product random_points summarize uniform values zipped",
    "runner.starts": "Adapter ClassSums Continued FromTeacher LoadedStart NaiveBayes"
    " Only Published Run Start StartContext Upcycled",
    "runner.teachers": "Aligned ContextTeacher ContrastedTeacher DynamicTeacher"
    " EMATeacher EnsembleTeacher FusedTeacher LoadedTeacher MostConfidentTeacher"
    " NamedTeachers"
    " OfflineTeacher OnlineTeacher PromptedTeacher RoutedTeacher"
    " ScheduledTeacher ServedTeacher StartTeacher Teacher TeacherContext TeacherTrunk"
    " UnlearnedTeacher ViewTeacher",
}
LAZY = [package for package in NAMES if package != "models"]


@pytest.mark.parametrize("package", NAMES)
def test_the_public_names(package):
    module = importlib.import_module(package)
    assert sorted(module.__all__) == NAMES[package].split()
    for name in module.__all__:
        assert getattr(module, name) is not None


@pytest.mark.parametrize("package", LAZY)
def test_the_stub_names_the_homes_of_the_package(package):
    folder = ROOT / package.replace(".", "/")
    stub = ast.parse((folder / "__init__.pyi").read_text())
    homes = importlib.import_module(package)._HOMES
    assert {
        alias.name: f"{node.module}"
        for node in ast.walk(stub)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    } == {
        name: package if home == name else f"{package}.{home}"
        for name, home in homes.items()
    }


@pytest.mark.parametrize("package", ["losses", *NAMES])
def test_an_old_name_warns_and_is_the_new_one(package):
    module = importlib.import_module(package)
    if package == "losses":
        renamed = module.renamed.RENAMED
    else:
        renamed = module._RENAMED if package in LAZY else module.RENAMED
    for old, new in renamed.items():
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert getattr(module, old) is getattr(module, new)
        assert f"is now {package}.{new}" in str(caught[0].message)


def test_an_unknown_name_is_refused():
    with pytest.raises(AttributeError, match="'runner' has no attribute 'nothing'"):
        importlib.import_module("runner").nothing  # noqa: B018
