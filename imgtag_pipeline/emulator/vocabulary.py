"""The words that the emulator's gateways answer with: the tagger's English names, and what they are in Chinese."""

from __future__ import annotations

from typing import Final

_COLORS: Final = {
    "black": "黑色",
    "gray": "灰色",
    "white": "白色",
    "red": "红色",
    "orange": "橙色",
    "yellow": "黄色",
    "green": "绿色",
    "cyan": "青色",
    "blue": "蓝色",
    "purple": "紫色",
    "magenta": "品红色",
}
_FACTS: Final = {
    "landscape": "横图",
    "portrait": "竖图",
    "square": "方图",
    "panorama": "全景",
    "tall": "长图",
    "dark": "暗调",
    "bright": "亮调",
    "high-contrast": "高对比度",
    "low-contrast": "低对比度",
    "greyscale": "灰度",
    "muted": "淡彩",
    "vivid": "鲜艳",
    "blurred": "模糊",
    "sharp": "清晰",
    "transparent": "透明",
    "animated": "动图",
}
_THINGS: Final = {
    "sky": "天空",
    "sea": "大海",
    "mountain": "山",
    "tree": "树",
    "flower": "花",
    "grass": "草地",
    "dog": "狗",
    "cat": "猫",
    "bird": "鸟",
    "horse": "马",
    "person": "人物",
    "girl": "女孩",
    "boy": "男孩",
    "car": "汽车",
    "bus": "公交车",
    "train": "火车",
    "ship": "船",
    "aircraft": "飞机",
    "bicycle": "自行车",
    "road": "道路",
    "bridge": "桥",
    "building": "建筑",
    "tower": "塔",
    "window": "窗户",
    "sofa": "沙发",
    "bed": "床",
    "table": "桌子",
    "chair": "椅子",
    "lamp": "灯",
    "book": "书",
    "phone": "手机",
    "computer": "电脑",
    "cup": "杯子",
    "bottle": "瓶子",
    "food": "美食",
    "fruit": "水果",
    "cake": "蛋糕",
    "shirt": "衬衫",
    "dress": "连衣裙",
    "shoe": "鞋",
    "bag": "包",
    "poster": "海报",
    "text": "文字",
    "snow": "雪",
    "rain": "雨",
    "cloud": "云",
    "night": "夜景",
    "sunset": "日落",
    "beach": "海滨",
    "river": "河流",
    "forest": "森林",
    "street": "街景",
}
_CHINESE: Final = _COLORS | _FACTS | _THINGS

COLORS: Final = tuple(_COLORS)
THINGS: Final = tuple(_THINGS)
SCENES: Final = ("夜景", "海滨", "街景", "广场", "森林", "雪山", "室内", "办公室", "餐厅", "公园")
RUBBISH: Final = (
    ("纸板箱", "可回收垃圾"),
    ("塑料瓶", "可回收垃圾"),
    ("果皮", "湿垃圾"),
    ("剩饭", "湿垃圾"),
    ("纸巾", "干垃圾"),
    ("陶瓷碗", "干垃圾"),
    ("电池", "有害垃圾"),
    ("药品", "有害垃圾"),
)
FRUITS: Final = ("橙子", "苹果", "香蕉", "葡萄", "西瓜", "草莓", "芒果", "梨")
FOODS: Final = (
    ("清蒸鲈鱼", "105"),
    ("鳜鱼", "117"),
    ("米饭", "116"),
    ("红烧肉", "470"),
    ("番茄炒蛋", "86"),
    ("牛肉面", "110"),
    ("饺子", "250"),
    ("其他类", "UNKNOWN"),
)
VEHICLES: Final = ("car", "MPV_mian", "SUV", "others", "bus", "truck")
LOGOS: Final = (("优酷英文", "TV"), ("360", "trademark"), ("星巴克", "trademark"), ("新华社", "TV"))
DEFECTS: Final = ("lackoffront", "blur", "reflection", "copy", "lowquality")


def chinese(name: str) -> str:
    """The name in Chinese; a name without a known word stays as it is."""
    return _CHINESE.get(name, name)


def english_label(name: str) -> str:
    """The name as Tencent's V2 writes labels: "high-contrast" is "Highcontrast"."""
    return name.replace("-", "").replace(" ", "").capitalize()
