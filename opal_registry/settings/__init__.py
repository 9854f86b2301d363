"""The configuration: its shape (``model``), its sources in their order (``sources``), and where each value comes from.

yaml_file, kinds > model > shape > layers > variables, explain > sources
"""
