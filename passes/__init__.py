"""Passes and strategies shipped as `prunec.passes`, one per file, named by the file."""

if __name__ != "prunec.passes":
    raise ImportError(
        f"this folder is the package prunec.passes, and was imported as '{__name__}': every class in it would exist"
        " twice. Write `import prunec.passes`, or name a pass by its text:"
        " prunec.grammar.registry.PASSES.make('fold-bn')"
    )
