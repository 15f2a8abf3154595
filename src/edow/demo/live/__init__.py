"""The live demo: a page with buttons that break real processes, and counters that show what became of it.

`show` drives it; `crew` keeps the processes, `watcher` measures, `truth` compares the effects with what had to be, and
`page` is what people see.
"""
