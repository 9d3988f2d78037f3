"""Everything that a user may add to, shipped as `prunec.passes`: one idea a file, the file's name is the pass's."""

if __name__ != "prunec.passes":
    raise ImportError(
        f"this folder is the package prunec.passes, and was imported as '{__name__}': every class in it would exist"
        " twice. Write `import prunec.passes`, or name a pass by its text:"
        " prunec.grammar.registry.PASSES.make('fold-bn')"
    )
