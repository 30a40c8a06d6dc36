"""The hooks that a module has, as measuring a module must leave it without any of its own."""


def hooks_of(module):
    """The forward hooks of a module and its parts, and those before: all of them, in order."""
    parts = list(module.modules())
    return [
        *(hook for part in parts for hook in part._forward_pre_hooks.values()),  # torch has no public list of hooks
        *(hook for part in parts for hook in part._forward_hooks.values()),  # nor of these
    ]
