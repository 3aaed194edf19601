"""The report: a folder of static pages made from records. `lossbench report`.

    records -> model (what is known) -> boards, lossinfo, figures (what a page shows) -> render (HTML) -> write (files)

No torch anywhere; Jinja2 and Plotly are the extra `report`. What records say is hostile text: it is escaped in pages,
in the data of figures, and never becomes a path.
"""
