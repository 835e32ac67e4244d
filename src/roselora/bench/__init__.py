"""Everything that compares methods: ``roselora bench``, installed by ``roselora[bench]``."""
