from runner.machine import early_exit


def test_actions_run_once_and_only_for_an_error(monkeypatch):
    monkeypatch.setattr(early_exit, "_ACTIONS", [])
    codes = []
    early_exit.register(codes.append)
    early_exit.register(codes.append)
    early_exit.run(0)
    assert codes == []
    early_exit.run(2)
    assert codes == [2]
