"""The providers that ship with Keystead, written as a vendor would write one and found the same way.

Nothing imports them by name: the entry points of the group `keystead.providers` do.
"""
