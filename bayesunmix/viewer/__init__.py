"""The viewer: what a person chooses on a map, and what is shown of it.

State is frozen (`choices`), what is shown comes of pure functions (`pictures`, `spectra`, `tables`, `export`), and
`figures`, `app` and `serve` alone know of Bokeh and Panel, which are optional and imported when a viewer is made.
"""
